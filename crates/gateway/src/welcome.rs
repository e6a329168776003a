//! What `serve` prints when it is ready: where it is, and at the first start how to see it work.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use zapbus_channel as channel;
use zapbus_event::Timestamp;

use crate::Started;

/// The port the example's receiver takes if it is free.
const RECEIVER_PORT: u16 = 9000;

/// The text for people; logs say the same to machines.
pub fn text(started: &Started) -> String {
    let mut text = format!(
        "\nZapbus {} is ready.\n\n  address      {}\n  API          {}/docs\n  data         {}\n",
        env!("CARGO_PKG_VERSION"),
        started.app.public_url,
        started.app.public_url,
        started.store,
    );
    match &started.new_admin_token {
        Some(token) => text.push_str(&format!(
            "  admin token  {}\n               (only its hash is kept: note it now, or set ZAPBUS_ADMIN_TOKEN)\n",
            token.expose()
        )),
        None if started.app.config.admin_token.is_some() => {}
        None => text.push_str(
            "  admin        the token of the first start (lost? set ZAPBUS_ADMIN_TOKEN to a new one)\n",
        ),
    }
    if started.first_start {
        text.push_str("\nSee it work: paste this into another terminal");
        text.push_str(&match example(started) {
            Some(example) => format!(" (bash, curl, Python 3).\n\n{example}\n"),
            None => format!(" (bash, curl).\n\n{}\n", example_without_receiver(started)),
        });
    }
    text
}

/// A receiver, three API calls and one webhook as Meta would send it. `None` where the receiver
/// would not be reached.
fn example(started: &Started) -> Option<String> {
    let port = free_port()?;
    let receiver = format!("http://127.0.0.1:{port}/");
    if !may_reach(started, &receiver) {
        return None;
    }
    let demo = Demo::new(started);
    Some(format!(
        r#"# 1. a receiver on port {port} that prints what arrives
python3 -uc 'from http.server import *
class Receiver(BaseHTTPRequestHandler):
  def do_POST(r): print("arrived:", r.rfile.read(int(r.headers["content-length"])).decode()); r.send_response(204); r.end_headers()
  def log_message(*_): pass
HTTPServer(("127.0.0.1", {port}), Receiver).serve_forever()' & sleep 1
# 2. an instance, its Cloud API source, and the receiver as its destination
{instance}
zapi $ZAPBUS/v1/instances/demo/destinations -d '{{"channel":{{"type":"webhook","url":"{receiver}"}},"events":["message.*"]}}'
# 3. a message, signed and posted as Meta does it
{message}
# (stop the receiver with: kill %1)
"#,
        instance = demo.instance,
        message = demo.message,
    ))
}

/// The same where a receiver on this machine is out of reach: the journal shows the message.
fn example_without_receiver(started: &Started) -> String {
    let demo = Demo::new(started);
    let mut allow = started.app.config.egress.allow.clone();
    allow.push("127.0.0.1".to_owned());
    format!(
        r#"# 1. an instance and its Cloud API source
{instance}
# 2. a message, signed and posted as Meta does it
{message}
# 3. it is in the journal
zapi "$ZAPBUS/v1/instances/demo/events?types=message.*"
# (for a receiver on this machine, start zapbus with ZAPBUS_EGRESS_ALLOW={allow})
"#,
        instance = demo.instance,
        message = demo.message,
        allow = allow.join(","),
    )
}

/// Whether a destination with this URL would be taken.
fn may_reach(started: &Started, url: &str) -> bool {
    channel::Config::read(json!({ "type": "webhook", "url": url }))
        .is_ok_and(|config| config.with_defaults().validate(&started.app.egress).is_ok())
}

/// The commands that both examples share.
struct Demo {
    instance: String,
    message: String,
}

impl Demo {
    fn new(started: &Started) -> Self {
        let token = match &started.new_admin_token {
            Some(token) => token.expose().to_owned(),
            // Never print a token that was not made here.
            None => "${ZAPBUS_ADMIN_TOKEN:?set it to the admin token that you gave to zapbus}"
                .to_owned(),
        };
        let now = (started.app.clock)();
        let secret = demo_secret(now);
        let body = message_of_meta(now);
        let signature = sign(&secret, &body);
        let url = base_url(started);
        Self {
            instance: format!(
                r#"ZAPBUS={url} ZAPBUS_TOKEN="{token}"
zapi() {{ curl -sS -w '\n' -H "authorization: Bearer $ZAPBUS_TOKEN" -H 'content-type: application/json' "$@"; }}
zapi $ZAPBUS/v1/instances -d '{{"name":"demo"}}'
zapi -X PUT $ZAPBUS/v1/instances/demo/source -d '{{"type":"cloud-api","app_secret":"{secret}","verify_token":"demo","phone_number_id":"100000000000001"}}'"#
            ),
            message: format!(
                r#"curl -sS -w '\n' -H 'content-type: application/json' -H 'x-hub-signature-256: sha256={signature}' -d '{body}' $ZAPBUS/sources/cloud-api/demo"#
            ),
        }
    }
}

/// How somebody on this machine reaches the gateway: with TLS by the name in its certificate.
fn base_url(started: &Started) -> String {
    if started.app.config.tls.is_on() {
        return started.app.public_url.clone();
    }
    let mut address = started.address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// Not a secret that protects anything: it belongs to the demo instance. It differs from start to
/// start all the same.
fn demo_secret(now: Timestamp) -> String {
    let mut random = [0; 16];
    match getrandom::fill(&mut random) {
        Ok(()) => hex::encode(random),
        Err(_) => format!("{:032x}", now.as_millis()),
    }
}

/// A text message as the Cloud API posts it, on one line and without an apostrophe.
fn message_of_meta(now: Timestamp) -> String {
    json!({
        "object": "whatsapp_business_account",
        "entry": [{
            "id": "100000000000000",
            "changes": [{
                "field": "messages",
                "value": {
                    "messaging_product": "whatsapp",
                    "metadata": {
                        "display_phone_number": "15550000001",
                        "phone_number_id": "100000000000001",
                    },
                    "contacts": [{ "profile": { "name": "Ana" }, "wa_id": "15550000002" }],
                    "messages": [{
                        "from": "15550000002",
                        "id": format!("wamid.DEMO{}", now.as_millis()),
                        "timestamp": now.as_secs().to_string(),
                        "type": "text",
                        "text": { "body": "Hello from Zapbus" },
                    }],
                },
            }],
        }],
    })
    .to_string()
}

/// Hex of the HMAC-SHA256 that Meta sends in `X-Hub-Signature-256`.
fn sign(secret: &str, body: &str) -> String {
    match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mac) => hex::encode(mac.chain_update(body.as_bytes()).finalize().into_bytes()),
        // HMAC takes keys of any length.
        Err(_) => String::new(),
    }
}

fn free_port() -> Option<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(RECEIVER_PORT).or_else(|_| bind(0)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_metas() {
        // printf '{"a":1}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            sign("secret", "{\"a\":1}"),
            "aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494"
        );
    }

    #[test]
    fn the_body_can_stand_between_apostrophes() {
        let body = message_of_meta(Timestamp::from_millis(1_767_225_601_000));
        assert!(!body.contains('\'') && !body.contains('\n'), "{body}");
    }
}
