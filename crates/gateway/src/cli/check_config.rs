//! `zapbus check-config`

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, Local, output::write_json};
use crate::config::{Origin, Setting};

/// Flags of `check-config`.
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    local: Local,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

impl CheckConfig {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let loaded = self.local.load();
        if self.json {
            let settings: Vec<_> = loaded
                .settings
                .iter()
                .map(|setting| {
                    json!({
                        "key": setting.key,
                        "value": setting.value,
                        "origin": setting.origin.to_string(),
                    })
                })
                .collect();
            let mistakes: Vec<_> = loaded
                .mistakes
                .iter()
                .map(|mistake| {
                    json!({
                        "key": mistake.key,
                        "origin": mistake.origin.to_string(),
                        "problem": mistake.problem,
                    })
                })
                .collect();
            let notes: Vec<_> = loaded.notes.iter().map(|note| &note.0).collect();
            let answer = json!({ "settings": settings, "mistakes": mistakes, "notes": notes });
            write_json(out, &answer)?;
        } else {
            match &loaded.file {
                Some(file) => writeln!(out, "file: {}", file.display())?,
                None => writeln!(out, "file: none (./zapbus.toml is read when it is there)")?,
            }
            write_settings(out, &loaded.settings)?;
            for note in &loaded.notes {
                writeln!(out, "note: {}", note.0)?;
            }
            for mistake in &loaded.mistakes {
                writeln!(out, "mistake: {mistake}")?;
            }
        }
        match loaded.mistakes.len() {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Usage, "1 mistake in the configuration")),
            n => Err(Failure::new(Exit::Usage, format!("{n} mistakes in the configuration"))),
        }
    }
}

/// Keys outside sections come first, as in a file.
fn write_settings(out: &mut dyn Write, settings: &[Setting]) -> std::io::Result<()> {
    let (sections, top): (Vec<_>, Vec<_>) =
        settings.iter().partition(|setting| setting.key.contains('.'));
    let width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    for setting in top.into_iter().chain(sections) {
        let value = if setting.value == "null" { "unset" } else { setting.value.as_str() };
        match &setting.origin {
            Origin::Default => writeln!(out, "  {:width$}  {value}", setting.key)?,
            origin => writeln!(out, "  {:width$}  {value}  <- {origin}", setting.key)?,
        }
    }
    Ok(())
}
