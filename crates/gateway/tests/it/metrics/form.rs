//! Reads what `/metrics` shows as strictly as a scraper might.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::Write as _,
    process::{Command, Stdio},
};

/// A text that has been checked.
pub(crate) struct Scrape {
    text: String,
    series: HashMap<String, f64>,
    /// Type and label names of each family (without `_total`).
    families: BTreeMap<String, (String, BTreeSet<String>)>,
}

impl Scrape {
    /// Types and help before samples, families in one piece, no series twice, counters `_total`,
    /// histograms that add up, the end mark.
    pub(super) fn openmetrics(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the end mark");
        assert!(!body.contains("# EOF"), "one end mark");
        Self::check(body, "_total")
    }

    /// The same for the older form, where a counter's family is called as its series.
    pub(super) fn plain(text: &str) -> Self {
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "the older form");
        Self::check(text, "")
    }

    fn check(text: &str, counter_suffix: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut scrape =
            Self { text: text.to_owned(), series: HashMap::new(), families: BTreeMap::new() };
        let (mut helped, mut typed) = (HashSet::new(), HashMap::new());
        let mut family = String::new();
        for line in text.lines() {
            assert!(!line.is_empty(), "no empty lines");
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let [what, name, said] = [(); 3].map(|()| words.next().expect(line));
                match what {
                    "HELP" => {
                        assert!(helped.insert(name.to_owned()), "a family twice: {line}");
                        assert!(said.len() > 5, "{line}");
                        let capital =
                            said.starts_with(|c: char| c.is_uppercase() || c.is_numeric());
                        assert!(capital, "help is a sentence: {line}");
                    }
                    "TYPE" => {
                        assert!(typed.insert(name.to_owned(), said.to_owned()).is_none(), "{line}");
                    }
                    "UNIT" => assert!(name.ends_with(said), "{line}"),
                    _ => panic!("{line}"),
                }
                name.clone_into(&mut family);
                continue;
            }
            let (series, number) = line.rsplit_once(' ').unwrap();
            let value: f64 = number.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let (name, labels) = split(series);
            assert!(helped.contains(&family), "no help: {line}");
            let kind = typed.get(&family).unwrap_or_else(|| panic!("no type: {line}")).clone();
            let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| {
                panic!("{line} stands under {family}");
            });
            match kind.as_str() {
                "counter" => {
                    assert!(name.ends_with("_total"), "{line}");
                    assert_eq!(suffix, counter_suffix, "{line}");
                }
                "gauge" => {
                    assert_eq!(suffix, "", "{line}");
                    assert!(!name.ends_with("_total"), "{line}");
                }
                "histogram" => {
                    assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                }
                other => panic!("type {other}: {line}"),
            }
            check_name(&name);
            let before = scrape.series.insert(series.to_owned(), value);
            assert!(before.is_none(), "a series twice: {line}");
            let base = family.strip_suffix("_total").unwrap_or(&family).to_owned();
            let entry = scrape.families.entry(base).or_insert((kind, BTreeSet::new()));
            entry.1.extend(labels.into_iter().map(|(name, _)| name).filter(|name| name != "le"));
        }
        // Families that have no series yet are families all the same.
        for (name, kind) in typed {
            assert!(helped.contains(&name), "{name} has no help");
            let base = name.strip_suffix("_total").unwrap_or(&name).to_owned();
            scrape.families.entry(base).or_insert((kind, BTreeSet::new()));
        }
        scrape.check_histograms();
        scrape
    }

    /// Buckets grow up to `+Inf`, which is the count.
    fn check_histograms(&self) {
        let mut last: HashMap<String, (f64, f64)> = HashMap::new();
        for line in self.text.lines().filter(|line| line.contains("_bucket{")) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let (name, labels) = split(series);
            let bound = labels.iter().find(|(name, _)| name == "le").expect(line).1.clone();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            let mut others: Vec<String> = labels
                .iter()
                .filter(|(name, _)| name != "le")
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect();
            let base = name.strip_suffix("_bucket").unwrap();
            let labels = if others.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", std::mem::take(&mut others).join(","))
            };
            let key = format!("{base}_count{labels}");
            let (before, count) = last.get(&key).copied().unwrap_or((f64::NEG_INFINITY, 0.0));
            assert!(bound > before && value >= count, "buckets are cumulative: {line}");
            last.insert(key, (bound, value));
        }
        for (count, (bound, value)) in last {
            assert!(bound.is_infinite(), "{count}: no last bucket");
            assert_eq!(self.series[&count], value, "{count}");
        }
    }

    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The value of `name` for a destination, by its id.
    pub(super) fn of_destination(&self, name: &str, id: &str) -> Option<f64> {
        let start = format!("{name}{{destination=\"{id}\"");
        let mut found = self.series.iter().filter(|(series, _)| series.starts_with(&start));
        let value = found.next().map(|(_, value)| *value);
        assert!(found.next().is_none(), "{name} twice for {id}");
        value
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Families with their types.
    pub(super) fn families(&self) -> BTreeMap<&str, &str> {
        self.families.iter().map(|(name, (kind, _))| (name.as_str(), kind.as_str())).collect()
    }

    /// Names of series that can be asked for, with their labels (`le` included).
    pub(super) fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names = BTreeMap::new();
        for (family, (kind, labels)) in &self.families {
            match kind.as_str() {
                "histogram" => {
                    let mut with_le = labels.clone();
                    with_le.insert("le".to_owned());
                    names.insert(format!("{family}_bucket"), with_le);
                    names.insert(format!("{family}_sum"), labels.clone());
                    names.insert(format!("{family}_count"), labels.clone());
                }
                "counter" => drop(names.insert(format!("{family}_total"), labels.clone())),
                _ => drop(names.insert(family.clone(), labels.clone())),
            }
        }
        names
    }
}

/// A series' name and labels.
fn split(series: &str) -> (String, Vec<(String, String)>) {
    let Some((name, rest)) = series.split_once('{') else {
        return (series.to_owned(), Vec::new());
    };
    let mut rest = rest.strip_suffix('}').expect(series);
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect(series);
        // No label of ours holds a quote.
        let (value, after) = after.split_once('"').expect(series);
        labels.push((label.to_owned(), value.to_owned()));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    (name.to_owned(), labels)
}

/// Base units, and words that Prometheus allows.
fn check_name(name: &str) {
    let ours = name.starts_with("zapbus_") || name.starts_with("process_");
    assert!(ours, "{name}");
    assert!(
        name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
        "{name}"
    );
    for unit in ["milliseconds", "_ms", "microseconds", "minutes", "kilobytes", "_kb", "megabytes"]
    {
        assert!(!name.ends_with(unit), "{name}: base units only");
    }
}

/// Asks the real promtool, where there is one.
pub(super) fn ask_promtool(arguments: &[&str], input: Option<&str>) {
    let program = std::env::var_os("ZAPBUS_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let skipped = "promtool is not installed: only our own checks were made";
            let mut err = std::io::stderr();
            // There is nobody else to tell.
            let _ = writeln!(err, "{skipped}");
            return;
        }
        Err(error) => panic!("{}: {error}", program.display()),
    };
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}{}",
        said(&output.stdout),
        said(&output.stderr)
    );
}
