//! People under two addresses: by phone number and by privacy id (LID).

use crate::{
    Alias,
    shape::{Address, AddressKind},
};

/// The address as reported, with whatever else the same element calls this person.
pub(super) fn person(reported: &str, also: &[Option<String>]) -> Address {
    let mut address = Address::parse(reported);
    for other in also.iter().flatten() {
        let other = Address::parse(other);
        match (address.kind, other.kind) {
            (AddressKind::Lid, AddressKind::User) => {
                address.phone = address.phone.take().or(other.phone);
            }
            (AddressKind::User, AddressKind::Lid) => {
                address.lid = address.lid.take().or(other.lid);
            }
            _ => {}
        }
    }
    address
}

/// The address of the same person in the other form, when both are known.
fn other_form(address: &Address) -> Option<String> {
    match address.kind {
        AddressKind::Lid => address.phone_id(),
        AddressKind::User => address.lid.clone(),
        _ => None,
    }
}

/// What these addresses teach about who is who.
pub(super) fn aliases<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> Vec<Alias> {
    let mut found: Vec<Alias> = Vec::new();
    for address in addresses {
        if !matches!(address.kind, AddressKind::Lid | AddressKind::User) {
            continue;
        }
        if let (Some(lid), Some(phone)) = (&address.lid, address.phone_id()) {
            let alias = Alias { lid: lid.clone(), phone };
            if !found.contains(&alias) {
                found.push(alias);
            }
        }
    }
    found
}

/// A key made of a chat and, in a group, a participant: as reported first, then with each address
/// in its other form, as far as that is known.
pub(super) fn keys(
    chat: &Address,
    participant: Option<&Address>,
    compose: impl Fn(&str, &str) -> String,
) -> Vec<String> {
    let reported = participant.map_or("", |participant| &participant.id);
    let mut keys = vec![compose(&chat.id, reported)];
    let other_chat = other_form(chat);
    let other_participant = participant.and_then(other_form);
    if other_chat.is_some() || other_participant.is_some() {
        keys.push(compose(
            other_chat.as_deref().unwrap_or(&chat.id),
            other_participant.as_deref().unwrap_or(reported),
        ));
    }
    keys
}

/// Whether both are the same person, in whatever form.
pub(super) fn is_same(one: &Address, other: &Address) -> bool {
    let equal = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
    one.id == other.id || equal(&one.phone, &other.phone) || equal(&one.lid, &other.lid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_linked() {
        let ana = person("9001:3@lid", &[None, Some("5511@s.whatsapp.net".to_owned())]);
        assert_eq!((ana.id.as_str(), ana.phone.as_deref()), ("9001@lid", Some("5511")));
        let alias = Alias { lid: "9001@lid".to_owned(), phone: "5511@s.whatsapp.net".to_owned() };
        let same = person("5511@c.us", &[Some("9001@lid".to_owned())]);
        assert_eq!(aliases([&ana, &same]), [alias]);
        assert!(is_same(&ana, &same) && !is_same(&ana, &Address::parse("9002@lid")));
        let both = keys(&ana, None, |chat, participant| format!("m|{chat}|{participant}"));
        assert_eq!(both, ["m|9001@lid|", "m|5511@s.whatsapp.net|"]);
    }

    #[test]
    fn what_is_no_person_has_one_form() {
        let group = person("1203@g.us", &[Some("5511@s.whatsapp.net".to_owned())]);
        assert!(aliases([&group]).is_empty());
        let bia = person("9002@lid", &[]);
        assert_eq!(keys(&group, Some(&bia), |a, b| format!("{a}|{b}")), ["1203@g.us|9002@lid"]);
    }
}
