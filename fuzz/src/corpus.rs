//! Writes what each target starts from into `corpus/<target>/`: its seeds, and the fixtures.

use std::{fs, io, path::Path};

use zapbus_fuzz::fuzzing::TARGETS;

/// Folders of fixtures, and the targets whose corpus they are part of.
const FIXTURES: &str = "../crates/event/fixtures";
const FED: [(&str, &str); 6] = [
    ("cloud_api", "cloud-api"),
    ("native_event", "cloud-api"),
    ("binaries", "cloud-api"),
    ("evolution", "evolution"),
    ("wuzapi", "wuzapi"),
    ("waha", "waha"),
];

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in TARGETS {
        let folder = here.join("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in target.seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        for (_, fixtures) in FED.iter().filter(|(fed, _)| *fed == target.name) {
            for file in fs::read_dir(here.join(FIXTURES).join(fixtures))? {
                let file = file?;
                fs::copy(file.path(), folder.join(file.file_name()))?;
            }
        }
        println!("{}: {} inputs", target.name, fs::read_dir(&folder)?.count());
    }
    Ok(())
}
