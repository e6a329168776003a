//! Every line that our crates can log has a name of its own, and is described.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// One call of a macro that logs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    level: String,
    fields: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a call whose opening bracket was just passed, split at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    let mut found = vec![String::new()];
    for c in text.chars() {
        let last = found.last_mut().unwrap();
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            last.push(c);
            continue;
        }
        match c {
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => quoted = true,
            _ => {}
        }
        last.push(c);
    }
    let trimmed = found.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// Every line of every crate, by its name.
fn logged() -> BTreeMap<String, Line> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let source = entry.unwrap().path().join("src");
        if source.is_dir() {
            sources(&source, &mut files);
        }
    }
    let mut found = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for level in ["error", "warn", "info", "debug", "trace"] {
            let call = format!("tracing::{level}!(");
            for (at, _) in text.match_indices(&call) {
                let arguments = arguments(&text[at + call.len()..]);
                let place = format!("{}: {arguments:?}", path.display());
                let name = arguments[0].strip_prefix("event = \"").unwrap_or_else(|| {
                    panic!("the event's name comes first: {place}");
                });
                let name = name.strip_suffix('"').expect(&place);
                let form = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
                assert!(name.chars().all(form) && name.matches('.').count() == 1, "{place}");
                let fields = arguments[1..]
                    .iter()
                    .filter(|argument| !argument.starts_with('"'))
                    .map(|argument| {
                        let key = argument.split('=').next().unwrap().trim();
                        let key = key.trim_start_matches(['%', '?']);
                        key.to_owned()
                    })
                    .collect();
                let line = Line { level: level.to_owned(), fields };
                let before = found.insert(name.to_owned(), line);
                assert!(before.is_none(), "two lines have one name: {place}");
            }
        }
        // Nothing is logged past the names that are looked for here.
        for other in ["use tracing::", "use log::"] {
            let used = text.lines().any(|line| line.trim_start().starts_with(other));
            assert!(!used, "{}: {other}", path.display());
        }
    }
    found
}

#[test]
fn every_line_is_described_and_nothing_else() {
    let text = std::fs::read_to_string(root().join("docs/operations/logs.md")).unwrap();
    let described: BTreeMap<String, Line> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, level, fields, meaning] = cells[..] else { panic!("{line}") };
            assert!(meaning.len() > 15 && meaning.ends_with('.'), "{line}");
            let fields = fields.split(", ").filter(|field| *field != "–");
            let fields = fields.map(|field| field.trim_matches('`').to_owned()).collect();
            (name.trim_matches('`').to_owned(), Line { level: level.to_owned(), fields })
        })
        .collect();
    let logged = logged();
    for (name, line) in &logged {
        assert_eq!(described.get(name), Some(line), "{name} in docs/operations/logs.md");
    }
    for name in described.keys() {
        assert!(logged.contains_key(name), "{name} is described and never logged");
    }
    let names: Vec<&String> = described.keys().collect();
    assert!(names.is_sorted());
}

#[test]
fn no_line_has_a_field_that_could_hold_a_secret_or_a_message() {
    for (name, line) in logged() {
        for field in &line.fields {
            let words =
                ["token", "secret", "password", "key", "body", "text", "header", "url", "query"];
            let speaks = words.iter().find(|word| field.contains(**word));
            assert!(speaks.is_none(), "{name}: {field}");
        }
    }
}
