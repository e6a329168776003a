//! Defaults < file < Evolution's and `RyzeAPI`'s variables < `ZAPBUS_*` < flags, with every mistake told at once.

mod evolution;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
};

use serde_json::{Map, Value};

use super::Config;

/// Variables that begin with `ZAPBUS_` and are not keys of the configuration.
const OTHER_VARIABLES: &[&str] = &["ZAPBUS_CONFIG", "ZAPBUS_URL", "ZAPBUS_TOKEN"];

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "./zapbus.toml";

/// The process environment, or what a test says it is.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// That of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// A variable; an empty one counts as unset, as compose files leave them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// Key, value and the flag's name.
    pub settings: Vec<(&'static str, String, &'static str)>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This variable.
    Variable(String),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong, where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Who said it.
    pub origin: Origin,
    /// The key, for example `http.max_connections`; empty when the whole file is meant.
    pub key: String,
    /// What was found and what was expected.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, self.key.is_empty()) {
            (origin, true) => write!(f, "{origin}: {}", self.problem),
            (Origin::Default, false) => write!(f, "{}: {}", self.key, self.problem),
            (origin, false) => write!(f, "{origin}: {}: {}", self.key, self.problem),
        }
    }
}

/// Something worth knowing that is no mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note(pub String);

/// One key as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// For example `http.max_connections`.
    pub key: String,
    /// As TOML would write it; secrets are masked.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// What was understood.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration; to be used only when there are no mistakes.
    pub config: Config,
    /// Every key.
    pub settings: Vec<Setting>,
    /// Everything that is wrong.
    pub mistakes: Vec<Mistake>,
    /// Hints.
    pub notes: Vec<Note>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads file, environment and flags.
    pub fn load(flags: &Flags, environment: &Environment) -> Loaded {
        let mut layers = Layers::new();
        let file = layers.file(flags, environment);
        layers.evolution(environment);
        layers.ryze(environment);
        layers.opentelemetry(environment);
        layers.variables(environment);
        for (key, value, flag) in &flags.settings {
            layers.set_text(key, value, Origin::Flag(flag));
        }
        layers.finish(file)
    }
}

/// What is understood of a file with this text.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn load_text(text: &str) -> Loaded {
    let (mut layers, path) = (Layers::new(), PathBuf::from(DEFAULT_FILE));
    layers.text(text, Origin::File(path.clone()));
    layers.finish(Some(path))
}

/// The tree of values set so far, and who set them.
struct Layers {
    known: BTreeMap<String, Value>,
    tree: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    mistakes: Vec<Mistake>,
    notes: Vec<Note>,
}

impl Layers {
    fn new() -> Self {
        let mut known = BTreeMap::new();
        leaves(&default_tree(), "", &mut known);
        Self {
            known,
            tree: Map::new(),
            origins: BTreeMap::new(),
            mistakes: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn wrong(&mut self, origin: Origin, key: &str, problem: impl Into<String>) {
        self.mistakes.push(Mistake { origin, key: key.to_owned(), problem: problem.into() });
    }

    fn file(&mut self, flags: &Flags, environment: &Environment) -> Option<PathBuf> {
        let named =
            flags.config.clone().or_else(|| environment.get("ZAPBUS_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let origin = Origin::File(path.clone());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return None;
            }
            Err(error) => {
                self.wrong(origin, "", format!("cannot be read: {error}"));
                return Some(path);
            }
        };
        self.text(&text, origin);
        Some(path)
    }

    fn text(&mut self, text: &str, origin: Origin) {
        match text.parse::<toml::Table>() {
            Ok(table) => self.table(&table, "", &origin),
            Err(error) => {
                let place = error.span().map(|span| place_of(text, span.start));
                let problem = match place {
                    // The line itself is not repeated: it may hold a secret.
                    Some((line, column)) => {
                        format!("line {line}, column {column}: {}", error.message())
                    }
                    None => error.message().to_owned(),
                };
                self.wrong(origin, "", problem);
            }
        }
    }

    fn table(&mut self, table: &toml::Table, prefix: &str, origin: &Origin) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if self.known.contains_key(&key) {
                self.set(&key, from_toml(value), origin.clone());
            } else if self.is_section(&key) {
                match value {
                    toml::Value::Table(inner) => self.table(inner, &key, origin),
                    other => self.wrong(
                        origin.clone(),
                        &key,
                        format!("found a {}, expected a section [{key}]", other.type_str()),
                    ),
                }
            } else {
                let problem = self.unknown_key(&key);
                self.wrong(origin.clone(), &key, problem);
            }
        }
    }

    fn is_section(&self, key: &str) -> bool {
        let start = format!("{key}.");
        self.known.keys().any(|known| known.starts_with(&start))
    }

    /// Says that there is no such key, with the one that was probably meant.
    fn unknown_key(&self, key: &str) -> String {
        let name = last_segment(key);
        let sections: BTreeSet<&str> =
            self.known.keys().filter_map(|known| known.split_once('.')).map(|(s, _)| s).collect();
        // The right name in the wrong section comes before a similar one.
        let elsewhere = self.known.keys().find(|known| last_segment(known) == name);
        let nearest = elsewhere.map(String::as_str).or_else(|| {
            nearest(key, self.known.keys().map(String::as_str).chain(sections.iter().copied()))
        });
        match nearest {
            Some(nearest) if sections.contains(nearest) => {
                format!("unknown section; did you mean [{nearest}]?")
            }
            Some(nearest) => format!("unknown key; did you mean {nearest}?"),
            None => "unknown key".to_owned(),
        }
    }

    /// What RyzeAPI calls the key that it encrypts secrets with.
    fn ryze(&mut self, environment: &Environment) {
        let name = "ENCRYPTION_KEY";
        if let Some(value) = environment.get(name) {
            self.set_text("encryption_key", value, Origin::Variable(name.to_owned()));
        }
    }

    /// The names that every program with traces understands.
    fn opentelemetry(&mut self, environment: &Environment) {
        if environment.get("OTEL_SDK_DISABLED").is_some_and(|value| value == "true") {
            return;
        }
        let base = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let speaks_grpc = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]
            .iter()
            .find_map(|name| environment.get(name))
            .is_some_and(|protocol| protocol == "grpc");
        if speaks_grpc {
            self.notes.push(Note(
                "OTEL_EXPORTER_OTLP_PROTOCOL is grpc: its endpoint is not used, since traces are sent over HTTP; set traces.endpoint".to_owned(),
            ));
        } else if let Some(value) = environment.get(base) {
            let url = format!("{}/v1/traces", value.trim_end_matches('/'));
            self.set_text("traces.endpoint", &url, Origin::Variable(base.to_owned()));
        }
        for (name, key) in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "traces.endpoint"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "traces.headers"),
            ("OTEL_SERVICE_NAME", "traces.service_name"),
            ("OTEL_TRACES_SAMPLER_ARG", "traces.sample_ratio"),
        ] {
            let unusable = speaks_grpc && key == "traces.endpoint";
            if let Some(value) = environment.get(name).filter(|_| !unusable) {
                self.set_text(key, value, Origin::Variable(name.to_owned()));
            }
        }
    }

    fn variables(&mut self, environment: &Environment) {
        let names: BTreeMap<String, String> =
            self.known.keys().map(|key| (variable_of(key), key.clone())).collect();
        for (name, value) in &environment.0 {
            if !name.starts_with("ZAPBUS_") || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let origin = Origin::Variable(name.clone());
            match names.get(name) {
                Some(_) if value.is_empty() => {}
                Some(key) => self.set_text(key, value, origin),
                None if is_of_kubernetes(name, value) => {}
                // What tests ask of a build that nobody else uses.
                None if cfg!(debug_assertions) && name.starts_with("ZAPBUS_TEST_") => {}
                None => {
                    let all =
                        names.keys().map(String::as_str).chain(OTHER_VARIABLES.iter().copied());
                    let problem = match nearest(name, all) {
                        Some(nearest) => format!("unknown variable; did you mean {nearest}?"),
                        None => "unknown variable; `zapbus check-config` lists the keys".to_owned(),
                    };
                    self.wrong(origin, "", problem);
                }
            }
        }
    }

    /// Sets a key from text, read as its type demands.
    fn set_text(&mut self, key: &str, text: &str, origin: Origin) {
        let value = match self.known.get(key) {
            Some(Value::Bool(_)) => text.parse().map_or_else(|_| text.into(), Value::Bool),
            Some(Value::Number(_)) => number(text).unwrap_or_else(|| text.into()),
            // Optional numbers and truth values have no default that would tell.
            Some(Value::Null) => {
                let other = number(text).or_else(|| text.parse().ok().map(Value::Bool));
                match other {
                    Some(other) if fault_of(key, &Value::from(text)).is_some() => other,
                    _ => text.into(),
                }
            }
            _ => text.into(),
        };
        self.set(key, value, origin);
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let value = match (self.known.get(key), value) {
            (Some(Value::Array(_)), Value::String(text)) => {
                let texts = list(&text);
                match numbers(&texts) {
                    Some(numbers) if fault_of(key, &texts).is_some() => numbers,
                    _ => texts,
                }
            }
            // An empty text unsets what has no default.
            (Some(Value::Null), Value::String(text)) if text.is_empty() => Value::Null,
            (_, value) => value,
        };
        if let Some(problem) = fault_of(key, &value) {
            self.wrong(origin, key, problem);
            return;
        }
        insert(&mut self.tree, key, value);
        self.origins.insert(key.to_owned(), origin);
    }

    fn finish(mut self, file: Option<PathBuf>) -> Loaded {
        let config: Config = match serde_json::from_value(Value::Object(self.tree.clone())) {
            Ok(config) => config,
            // Each value was tried alone before: this is not reached, and not hidden either.
            Err(error) => {
                self.wrong(Origin::Default, "", error.to_string());
                Config::default()
            }
        };
        for (key, problem) in config.check() {
            let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default);
            self.wrong(origin, &key, problem);
        }
        if config.evolution.websocket.lets_neighbours_in() && config.trusted_proxies.is_empty() {
            self.notes.push(Note(
                "evolution.websocket.allow_anonymous_from (WEBSOCKET_ALLOWED_HOSTS) lets everybody on \
                 this machine read all events of the default account without a key. Behind a reverse \
                 proxy on this machine that is everybody: name it in trusted_proxies, and see that it \
                 sends X-Forwarded-For"
                    .to_owned(),
            ));
        }
        let mut values = BTreeMap::new();
        leaves(&serde_json::to_value(&config).unwrap_or_default(), "", &mut values);
        let settings = values
            .into_iter()
            .map(|(key, value)| Setting {
                origin: self.origins.get(&key).cloned().unwrap_or(Origin::Default),
                value: shown(&value),
                key,
            })
            .collect();
        Loaded { config, settings, mistakes: self.mistakes, notes: self.notes, file }
    }
}

/// A value as it may be printed. A URL's user and query are often a token; secrets themselves
/// print as such.
fn shown(value: &Value) -> String {
    let Some(mut url) = value.as_str().and_then(|text| text.parse::<url::Url>().ok()) else {
        return value.to_string();
    };
    if !url.has_host() {
        return value.to_string();
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if !has_user && url.query().is_none() && url.fragment().is_none() {
        return value.to_string();
    }
    if has_user && (url.set_username("***").is_err() || url.set_password(None).is_err()) {
        return "\"***\"".to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.set_fragment(None);
    Value::from(url.to_string()).to_string()
}

fn default_tree() -> Value {
    serde_json::to_value(Config::default()).unwrap_or_default()
}

/// Keys with their values; what has no value yet is null.
fn leaves(tree: &Value, prefix: &str, into: &mut BTreeMap<String, Value>) {
    let Value::Object(members) = tree else {
        into.insert(prefix.to_owned(), tree.clone());
        return;
    };
    for (name, value) in members {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        leaves(value, &key, into);
    }
}

/// What is wrong with a value for a key, by trying it alone.
fn fault_of(key: &str, value: &Value) -> Option<String> {
    let mut tree = Map::new();
    insert(&mut tree, key, value.clone());
    serde_json::from_value::<Config>(Value::Object(tree)).err().map(|error| error.to_string())
}

fn insert(tree: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = tree.entry(section).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn from_toml(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(yes) => (*yes).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(from_toml).collect(),
        toml::Value::Table(members) => {
            members.iter().map(|(name, value)| (name.clone(), from_toml(value))).collect()
        }
    }
}

fn number(text: &str) -> Option<Value> {
    text.parse::<u64>()
        .map(Value::from)
        .or_else(|_| text.parse::<i64>().map(Value::from))
        .or_else(|_| text.parse::<f64>().map(Value::from))
        .ok()
}

fn list(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// The same list as numbers, if it is one.
fn numbers(texts: &Value) -> Option<Value> {
    let items = texts.as_array()?.iter();
    items.map(|item| number(item.as_str()?)).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn last_segment(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, name)| name)
}

fn variable_of(key: &str) -> String {
    format!("ZAPBUS_{}", key.replace('.', "_").to_uppercase())
}

/// Whether Kubernetes set this variable, as it does in every container for a Service whose name
/// begins with `zapbus`: `ZAPBUS_SERVICE_HOST`, `ZAPBUS_PORT=tcp://…`, `ZAPBUS_PORT_8080_TCP` and
/// their like.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix("ZAPBUS") else { return false };
    if rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
    {
        return true;
    }
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    if rest.ends_with("_PORT") && is_url {
        return true;
    }
    rest.split("_PORT_").skip(1).any(|port| {
        let mut words = port.split('_');
        words.next().is_some_and(|number| number.parse::<u16>().is_ok())
            && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(words.next(), None | Some("ADDR" | "PORT" | "PROTO"))
    })
}

/// The most similar name, if any is similar at all.
fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Line and column, from 1, of a byte offset.
fn place_of(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
