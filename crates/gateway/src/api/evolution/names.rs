//! The lists of event names that channels subscribe to.

use zapbus_event::{
    Filter,
    dialect::{Fallback, evolution::Names},
};

use super::body::Members;

/// The names that a body lists, or what is wrong with them. An empty list means all.
pub(super) fn read(members: &Members, keys: &[&str]) -> Result<Option<Names>, String> {
    let Some(list) = members.list(keys)? else {
        return Ok(None);
    };
    Names::parse(&list).map(Some).map_err(|error| members.path(&error.to_string()))
}

/// The canonical events to look at for them. Where there are none, it is those of one rare type: what
/// the dialect writes of it has none of the names.
pub(super) fn filter(names: Names) -> Filter {
    names
        .filter(Fallback::Skip)
        .or_else(|| Filter::parse(&["system.started"]).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use zapbus_event::Kind;

    use super::*;

    #[test]
    fn names_that_mean_nothing_select_next_to_nothing() {
        let names = Names::parse(&["NEW_JWT_TOKEN"]).unwrap();
        assert_eq!(names, Names::NONE);
        assert!(!filter(names).matches(Kind::MessageReceived, None));
        assert!(filter(Names::ALL).matches(Kind::MessageReceived, None));
    }
}
