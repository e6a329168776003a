//! The plain form of the documentation, `new WebSocket("ws://host:port")`: an object per frame, of
//! all instances, or of the one that the path names.

use std::sync::Arc;

use axum::{
    extract::ws::WebSocketUpgrade,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use zapbus_event::{Event, dialect::Part};

use super::{
    access::{Refused, Visitor},
    names::Wanted,
    namespace::{Subject, find, open, reached},
};
use crate::{
    api::{error::ApiError, evolution::answer::Failure},
    app::App,
    realtime::{Dead, Gap, Opened, Protocol, Said},
    server::proxy::Peer,
};

/// Sub-protocols that are tried as keys.
const MOST_KEYS: usize = 4;

/// What a browser may call the sub-protocol before the one that is its key.
const PROTOCOL: &str = "apikey";

/// Opens a socket at `/` or at `/<instance>`; what is refused is refused before the upgrade.
pub(crate) async fn serve(
    app: &App,
    peer: Option<Peer>,
    headers: &HeaderMap,
    uri: &Uri,
    upgrade: WebSocketUpgrade,
) -> Response {
    match begin(app, peer, headers, uri, upgrade).await {
        Ok(response) => response,
        Err(Refused::NoKey | Refused::WrongKey) => Failure::unauthorized().into_response(),
        Err(Refused::NoNamespace) => {
            Failure::no_instance(uri.path().trim_matches('/')).into_response()
        }
        Err(Refused::Bad(message)) => Failure::bad(message).into_response(),
        Err(Refused::Failed(error)) => Failure::from(error).into_response(),
    }
}

/// Whether this may be the path of an instance's socket.
pub(crate) fn is_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

async fn begin(
    app: &App,
    peer: Option<Peer>,
    headers: &HeaderMap,
    uri: &Uri,
    mut upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    if !app.realtime.config().admits(origin) {
        return Err(ApiError::Forbidden { needs: "an origin that `realtime.origins` names" }.into());
    }
    let mut visitor = Visitor::of(app, peer, headers, uri.query().unwrap_or_default()).await?;
    if let Some(protocol) = key_of_protocols(app, &mut visitor, &upgrade).await {
        upgrade.set_selected_protocol(protocol);
    }
    let mut wishes = visitor.wishes.clone();
    // A frame has no place for an acknowledgement.
    wishes.ack = false;
    let access = visitor.access(app, &wishes).await?;
    let subject = match uri.path().trim_matches('/') {
        "" => reached(app, &access).await?,
        name => Subject::Instance(find(app, &access, name).await?),
    };
    let (ready, _) = open(app, &access, &subject, &wishes).await?;
    let frames = Frames { wanted: subject.wanted(app) };
    let upgrade = app.realtime.upgrade(upgrade);
    Ok(upgrade.on_upgrade(move |socket| ready.serve(socket, frames)))
}

/// Browsers can send a key only in the query, or as a sub-protocol: alone, or with `apikey` beside
/// it, so that not the key is what the answer shows.
async fn key_of_protocols(
    app: &App,
    visitor: &mut Visitor,
    upgrade: &WebSocketUpgrade,
) -> Option<HeaderValue> {
    let offered: Vec<HeaderValue> = upgrade.requested_protocols().cloned().collect();
    let named = offered.iter().find(|protocol| *protocol == PROTOCOL).cloned();
    if visitor.caller.is_some() {
        return named;
    }
    for protocol in offered.iter().filter(|protocol| *protocol != PROTOCOL).take(MOST_KEYS) {
        if let Ok(key) = protocol.to_str()
            && visitor.admit(app, key).await.is_ok()
        {
            return named.or_else(|| Some(protocol.clone()));
        }
    }
    named
}

/// The bodies, and nothing else.
struct Frames {
    wanted: Wanted,
}

impl Protocol for Frames {
    fn name(&self) -> &'static str {
        "evolution"
    }

    fn opened(&self, _: &Opened<'_>) -> Option<Bytes> {
        None
    }

    async fn look(&mut self) {
        self.wanted.look().await;
    }

    fn event(&mut self, _: &Arc<Event>, parts: &[Part], frames: &mut Vec<Bytes>) {
        let wanted = parts.iter().filter(|part| self.wanted.wants(&part.name));
        frames.extend(wanted.map(|part| part.body.clone()));
    }

    fn gap(&self, _: &Gap<'_>) -> Option<Bytes> {
        None
    }

    fn dead(&self, _: &Dead) -> Option<Bytes> {
        None
    }

    fn read(&mut self, _: &str) -> Said {
        Said::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::is_path;

    #[test]
    fn an_instance_is_one_segment() {
        assert!(is_path("/shop") && is_path("/my%20shop"));
        assert!(!is_path("/") && !is_path("/a/b") && !is_path(""));
    }
}
