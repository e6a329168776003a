//! Reading the journal across shards: where a reader stands, and its events as one sequence.

mod merged;
mod places;

pub(crate) use self::{
    merged::{Merged, Next},
    places::{MAX_POSITION, Places, position_of, positions_of},
};
