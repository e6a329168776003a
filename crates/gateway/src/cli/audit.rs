//! `zapbus audit`

use std::io::Write;

use clap::Args;

use super::{
    Failure,
    client::{Call, Connection},
    listing::{Listing, Shape},
};

const SHAPE: Shape = Shape::table(&["at", "actor", "action", "target", "detail"]);

/// Flags of `audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(flatten)]
    listing: Listing,
}

impl Audit {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.listing.show(to, || Call::get(&["v1", "audit"]), &SHAPE, out, err)
    }
}
