//! One realistic payload per type: for the catalog of types, and for test events.

mod message;
mod session;
mod surroundings;

use crate::{Data, Kind, Timestamp, shape::Address};

/// A realistic payload of a type, with fictional people and numbers.
pub fn sample(kind: Kind) -> Data {
    match kind {
        Kind::MessageReceived => message::received(),
        Kind::MessageSent => message::sent(),
        Kind::MessageEdited => message::edited(),
        Kind::MessageDeleted => message::deleted(),
        Kind::MessageReaction => message::reaction(),
        Kind::MessageVote => message::vote(),
        Kind::MessageStatus => message::status(),
        Kind::MessageUndecryptable => message::undecryptable(),
        Kind::MessageFlagged => message::flagged(),
        Kind::PresenceUser => surroundings::presence_user(),
        Kind::PresenceChat => surroundings::presence_chat(),
        Kind::ChatUpdated => surroundings::chat_updated(),
        Kind::ChatDeleted => surroundings::chat_deleted(),
        Kind::ContactUpdated => surroundings::contact_updated(),
        Kind::GroupUpdated => surroundings::group_updated(),
        Kind::GroupParticipants => surroundings::group_participants(),
        Kind::GroupLifecycle => surroundings::group_lifecycle(),
        Kind::NewsletterUpdated => surroundings::newsletter_updated(),
        Kind::CallUpdated => surroundings::call_updated(),
        Kind::LabelUpdated => surroundings::label_updated(),
        Kind::LabelAssociation => surroundings::label_association(),
        Kind::HistorySync => message::history(),
        Kind::InstanceConnecting => session::connecting(),
        Kind::InstanceConnected => session::connected(),
        Kind::InstanceDisconnected => session::disconnected(),
        Kind::InstanceLoggedOut => session::logged_out(),
        Kind::InstanceBanned => session::banned(),
        Kind::InstanceQr => session::qr(),
        Kind::InstancePairCode => session::pair_code(),
        Kind::InstancePaired => session::paired(),
        Kind::InstanceError => session::error(),
        Kind::InstanceSync => session::sync(),
        Kind::InstanceLifecycle => session::lifecycle(),
        Kind::AccountUpdated => session::account_updated(),
        Kind::TemplateUpdated => session::template_updated(),
        Kind::BotSession => session::bot(),
        Kind::SystemStarted => session::started(),
        Kind::EventUnknown => session::unknown(),
        Kind::DestinationFlowing => Data::DestinationFlowing(session::destination(None)),
        Kind::DestinationProbing => {
            Data::DestinationProbing(session::destination(Some("HTTP 503, five times in a row")))
        }
        Kind::DestinationPaused => {
            Data::DestinationPaused(session::destination(Some("paused by an operator")))
        }
        Kind::DestinationDisabled => {
            Data::DestinationDisabled(session::destination(Some("HTTP 410")))
        }
        Kind::DestinationGap => session::gap(),
    }
}

/// The moment in which all samples play: 1 January 2026, one second past midnight.
fn moment() -> Timestamp {
    Timestamp::from_millis(1_767_225_601_000)
}

fn own() -> Address {
    Address::phone("5511999990000").named("Loja Exemplo")
}

fn ana() -> Address {
    Address::phone("5511999990001").named("Ana Exemplo")
}

fn bia() -> Address {
    Address::phone("5511999990002").named("Bia Exemplo")
}

fn group() -> Address {
    Address::group("120363000000000001").named("Clientes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, OrderedBy, Source, SourceKind};

    #[test]
    fn every_type_has_a_sample_that_reads_back() {
        for kind in Kind::ALL {
            let data = sample(*kind);
            assert_eq!(data.kind(), *kind);
            let bytes = data.to_bytes();
            let back = Data::parse(*kind, &bytes).unwrap();
            assert_eq!(back, data, "{kind}");
            assert_eq!(back.to_bytes(), bytes, "{kind}");
        }
    }

    #[test]
    fn facets_are_what_the_types_say() {
        for kind in Kind::ALL {
            let data = sample(*kind);
            assert_eq!(data.facet().is_some(), kind.facet_field().is_some(), "{kind}");
            let json: serde_json::Value = serde_json::from_slice(&data.to_bytes()).unwrap();
            if let Some(field) = kind.facet_field() {
                let at = format!("/{}", field.replace('.', "/"));
                let value = json.pointer(&at).and_then(|value| value.as_str());
                assert_eq!(value, data.facet(), "{kind}");
            }
            if let (Some(values), Some(facet)) = (kind.facet_values(), data.facet()) {
                assert!(values.contains(&facet), "{kind}");
            }
        }
    }

    #[test]
    fn partitions_are_what_the_types_say() {
        for kind in Kind::ALL {
            let data = sample(*kind);
            let json: serde_json::Value = serde_json::from_slice(&data.to_bytes()).unwrap();
            let at = |pointer: &str| json.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            let expected = match kind.ordered_by() {
                OrderedBy::Chat => at("/chat/id"),
                OrderedBy::Group => at("/group/id"),
                OrderedBy::Call => at("/call_id"),
                OrderedBy::User if *kind == Kind::PresenceUser => at("/user/id"),
                OrderedBy::User => at("/contact/id"),
                OrderedBy::Newsletter => at("/newsletter/id"),
                OrderedBy::Instance => "_instance".to_owned(),
                OrderedBy::Destination => format!("_destination/{}", at("/destination")),
            };
            assert_eq!(data.partition(), expected, "{kind}");
        }
    }

    #[test]
    fn a_sample_becomes_a_draft() {
        let source = Source {
            kind: SourceKind::Simulator,
            event: "test".to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        };
        let draft = Draft::from_data(&sample(Kind::PresenceChat), source);
        assert!(draft.ephemeral && draft.keys.is_empty());
        assert_eq!(draft.facet.as_deref(), Some("typing"));
    }

    #[test]
    fn samples_do_not_change_unseen() {
        let samples: serde_json::Map<String, serde_json::Value> = Kind::ALL
            .iter()
            .map(|kind| (kind.to_string(), serde_json::to_value(sample(*kind)).unwrap()))
            .collect();
        insta::assert_json_snapshot!(samples);
    }
}
