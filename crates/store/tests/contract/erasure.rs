//! What is erased leaves no trace.

use bytes::Bytes;
use zapbus_event::{Alias, Draft, Kind, Position, Raw};
use zapbus_store::{
    Append, DeliveryQuery, Erase, NewEvent, Reader, Row, Start, State, Status, StoreError,
};

use crate::engine::*;

const ANA: &str = "5511977777777@s.whatsapp.net";
const ANA_LID: &str = "998877665544@lid";
const BOB: &str = "5511988888888@s.whatsapp.net";

fn from(person: &str, chat: &str, secret: &str) -> Draft {
    let data = format!(
        r#"{{"chat":{{"id":"{chat}"}},"sender":{{"id":"{person}"}},"content":{{"body":"{secret}"}}}}"#
    );
    Draft { partition: chat.to_owned(), ..draft(Kind::MessageReceived, &data) }
}

#[tokio::test]
async fn a_person_is_gone_from_every_file() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    let lane = engine.lane(a, Start::Now).await;
    let alias = Alias { lid: ANA_LID.to_owned(), phone: ANA.to_owned() };
    let mut said = Vec::new();
    for n in 0..300 {
        let (person, secret) =
            if n % 3 == 0 { (ANA, "anas-secret-words") } else { (BOB, "bobs-words") };
        let mut draft = from(person, person, &format!("{secret} {n} {}", "s".repeat(n * 40)));
        if n % 2 == 0 {
            draft.raw = Raw::Bytes(Bytes::from(format!("{{\"raw\":\"{secret}\"}} {person}")));
        }
        draft.aliases = if n == 0 { vec![alias.clone()] } else { Vec::new() };
        draft.keys = vec![n.to_string()];
        let instance = if n % 2 == 0 { a } else { b };
        said.push((instance, person, engine.append(instance, draft).await));
    }
    let in_group = from(ANA_LID, "12036304@g.us", "anas-secret-words in a group");
    engine.append(a, in_group).await;
    let body = Bytes::from_static(b"whole body with anas-secret-words");
    let events = vec![NewEvent { instance: a, draft: from(ANA, ANA, "anas-secret-words x") }];
    engine.store().append(Append { events, body: Some(body) }).await.unwrap();
    for (instance, person, appended) in &said {
        if *instance == a {
            let mut failed = attempt(1, 500, engine.now());
            failed.excerpt = Bytes::from(format!("you said {person}: anas-secret-words"));
            failed.error = Some("anas-secret-words".to_owned());
            let row = Row {
                attempt: Some(failed),
                ..row(appended.seq, State::Retrying { due: engine.now() })
            };
            engine.settle(lane, None, vec![row]).await;
        }
    }
    // Rows of Bob's quote Ana here: only what belongs to her events is asked for.
    let quoting = engine.store().lane_stats(lane).await.unwrap().retrying;

    let what = Erase::Person { account, address: ANA.to_owned() };
    assert_eq!(engine.store().erasable(what.clone()).await.unwrap(), 102);
    let erased = engine.store().erase(what.clone(), &actor()).await.unwrap();
    assert_eq!(erased.events, 102);
    assert_eq!(erased.bodies, 1);
    assert_eq!(erased.deliveries, 50);
    let left = engine.read_all(Reader::All, Position::START).await;
    assert!(left.iter().all(|event| !event.data.windows(4).any(|window| window == b"anas")));
    let cancelled = DeliveryQuery { status: vec![Status::Cancelled], ..DeliveryQuery::default() };
    let page = engine.store().search(cancelled, None, 100).await.unwrap();
    assert_eq!(page.deliveries.len(), 50);
    assert!(page.deliveries.iter().all(|row| row.excerpt.is_empty() && row.error.is_none()));
    assert_eq!(engine.store().lane_stats(lane).await.unwrap().retrying, quoting - 50);
    assert!(engine.store().aliases(a, ANA).await.unwrap().is_empty());
    assert_eq!(engine.store().erase(what, &actor()).await.unwrap().events, 0);
    // Erased is not forgotten: a repeat from upstream does not bring it back.
    let again = Draft { keys: vec!["0".to_owned()], ..from(ANA, ANA, "anas-secret-words") };
    assert!(engine.append(a, again).await.duplicate);
    let line = &engine.store().audit(None, None, 1).await.unwrap()[0];
    assert_eq!(line.action, "erase");
    assert!(!line.detail.to_string().contains("5511977777777"));
}

#[tokio::test]
async fn no_file_holds_a_word_of_what_was_erased() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    for n in 0..400 {
        let person = if n % 4 == 0 { ANA } else { BOB };
        let word = if n % 4 == 0 { "anas-secret" } else { "bobs-word" };
        let text = format!("{word} ").repeat(1 + n % 90);
        let mut draft = from(person, person, &text);
        draft.raw = Raw::Bytes(Bytes::from(format!("{{\"{person}\":\"{text}\"}}")));
        let appended = engine.append(instance, draft).await;
        let mut failed = attempt(1, 500, engine.now());
        failed.excerpt = Bytes::from(text);
        let due = State::Retrying { due: engine.now() };
        let row = Row { attempt: Some(failed), ..row(appended.seq, due) };
        engine.settle(lane, None, vec![row]).await;
    }
    assert!(engine.holds(b"anas-secret").await);
    let what = Erase::Chat { instance, chat: ANA.to_owned() };
    assert_eq!(engine.store().erase(what, &actor()).await.unwrap().events, 100);
    assert!(!engine.holds(b"anas-secret").await);
    assert!(!engine.holds(ANA.as_bytes()).await);
    assert!(engine.holds(b"bobs-word").await);
}

#[tokio::test]
async fn an_address_that_is_part_of_another_is_another() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.append(instance, from("15511977777777@s.whatsapp.net", BOB, "x")).await;
    let what = Erase::Chat { instance, chat: ANA.to_owned() };
    assert_eq!(engine.store().erase(what, &actor()).await.unwrap().events, 0);
}

#[tokio::test]
async fn an_instance_is_emptied_and_goes_on() {
    let engine = Engine::start().await;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    engine.say_many(a, 1_000).await;
    engine.say_many(b, 10).await;
    engine.append(a, draft(Kind::InstanceConnected, r#"{"account":{"name":"Shop"}}"#)).await;
    assert_eq!(engine.store().erasable(Erase::Instance(a)).await.unwrap(), 1_002);
    assert_eq!(engine.read_all(Reader::Instance(a), Position::START).await.len(), 1_002);
    let erased = engine.store().erase(Erase::Instance(a), &actor()).await.unwrap();
    assert_eq!(erased.events, 1_002);
    assert_eq!(engine.store().erasable(Erase::Instance(a)).await.unwrap(), 0);
    assert!(engine.read_all(Reader::Instance(a), Position::START).await.is_empty());
    assert_eq!(engine.read_all(Reader::Instance(b), Position::START).await.len(), 11);
    assert_eq!(engine.store().instance_status(a).await.unwrap().state.name, None);
    engine.say(a, "hello again").await;
    let nobody = Erase::Instance(new_instance(engine.account().await.id, "x").id);
    let refused = engine.store().erasable(nobody.clone()).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    let refused = engine.store().erase(nobody, &actor()).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })));
}

fn sha256(text: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).into()
}

#[tokio::test]
async fn a_body_goes_for_whichever_instance_it_brought_events_of() {
    let engine = Engine::start().await;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    for erased in [a, b] {
        let body = Bytes::from(format!("whole body of two instances, erased for {erased}"));
        let events = [a, b].map(|instance| NewEvent { instance, draft: message("x") }).into();
        let sha = sha256(&body);
        engine.store().append(Append { events, body: Some(body) }).await.unwrap();
        assert!(engine.store().body(sha).await.unwrap().is_some());
        let done = engine.store().erase(Erase::Instance(erased), &actor()).await.unwrap();
        assert_eq!(done.bodies, 1);
        assert!(engine.store().body(sha).await.unwrap().is_none());
        assert!(!engine.holds(b"whole body of two instances").await);
    }
}

#[tokio::test]
async fn a_body_whose_last_event_was_known_already_goes_too() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let known = keyed("known", &["k"]);
    engine.append(instance, known.clone()).await;
    engine.say(instance, "between").await;
    let events = [from(ANA, ANA, "new"), known].map(|draft| NewEvent { instance, draft }).into();
    // It names nobody in a form that a search would find.
    let body = Bytes::from_static(b"whole body in a form of its own");
    engine.store().append(Append { events, body: Some(body) }).await.unwrap();
    let what = Erase::Chat { instance, chat: ANA.to_owned() };
    let erased = engine.store().erase(what, &actor()).await.unwrap();
    assert_eq!((erased.events, erased.bodies), (1, 1));
    assert!(!engine.holds(b"in a form of its own").await);
}

#[tokio::test]
async fn a_body_that_names_a_person_goes_whatever_its_events_say() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    for (n, person) in [ANA, BOB, ANA_LID].iter().enumerate() {
        let body = Bytes::from(format!("{{\"n\":{n},\"not understood\":\"{person}\"}}"));
        let events = vec![NewEvent { instance, draft: message("x") }];
        engine.store().append(Append { events, body: Some(body) }).await.unwrap();
    }
    let mut together = message("y");
    together.aliases = vec![Alias { lid: ANA_LID.to_owned(), phone: ANA.to_owned() }];
    engine.append(instance, together).await;
    let what = Erase::Person { account, address: ANA.to_owned() };
    let erased = engine.store().erase(what, &actor()).await.unwrap();
    assert_eq!((erased.events, erased.bodies), (0, 2));
    assert!(!engine.holds(ANA.as_bytes()).await);
    assert!(engine.holds(BOB.as_bytes()).await);
}

#[tokio::test]
async fn a_slow_reader_of_the_log_holds_up_no_append_while_something_is_erased() {
    let engine = Engine::start().await;
    if engine.skips("a log file that is cut") {
        return;
    }
    let instance = engine.instance("shop").await;
    engine.append(instance, from(ANA, ANA, "anas-secret-words")).await;
    let reader = rusqlite::Connection::open(engine.data_dir().join("zapbus.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM journal").unwrap();
    let seconds = std::time::Duration::from_secs;
    let by = actor();
    let erasing = engine.store().erase(Erase::Instance(instance), &by);
    let saying = async {
        let begun = std::time::Instant::now();
        let mut longest = seconds(0);
        while begun.elapsed() < seconds(4) {
            let each = std::time::Instant::now();
            engine.say(instance, "x").await;
            longest = longest.max(each.elapsed());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        reader.execute_batch("COMMIT").unwrap();
        longest
    };
    let (erased, longest) = tokio::join!(erasing, saying);
    assert_eq!(erased.unwrap().events, 2);
    assert!(longest < seconds(2), "{longest:?}");
    assert!(!engine.holds(b"anas-secret-words").await);
}
