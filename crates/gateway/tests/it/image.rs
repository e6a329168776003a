//! The image: what is in it, and that it can be built of what is sent to the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::deploy::{check_environment, file, read};

/// Instructions of a Dockerfile, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap();
            (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

#[test]
fn the_image_is_small_not_root_and_checks_itself() {
    let all = instructions();
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    assert_eq!(all.iter().filter(|(word, _)| word == "FROM").count(), 3, "built in stages");
    let of_image: BTreeMap<&str, &str> =
        all[last..].iter().map(|(word, rest)| (word.as_str(), rest.as_str())).collect();
    assert!(of_image["FROM"].starts_with("gcr.io/distroless/cc-"), "{of_image:?}");
    let uid: u32 = of_image["USER"].split(':').next().unwrap().parse().unwrap();
    assert!(uid > 0);
    assert!(!of_image.contains_key("RUN"), "there is no shell");
    let check = of_image["HEALTHCHECK"];
    assert!(check.ends_with(r#"CMD ["/usr/local/bin/zapbus", "healthcheck"]"#), "{check}");
    assert_eq!(of_image["ENTRYPOINT"], r#"["/usr/local/bin/zapbus"]"#);
    assert_eq!(of_image["CMD"], r#"["serve"]"#);
    let manifest = read("Cargo.toml");
    let rust = all[0].1.strip_prefix("RUST_VERSION=").unwrap();
    assert!(manifest.contains(&format!("rust-version = \"{rust}\"")), "{rust}");
    let settings = of_image["ENV"].split(' ').map(|pair| pair.split_once('=').unwrap());
    let port = of_image["EXPOSE"];
    check_environment(settings.collect(), |config| {
        assert_eq!(config.listen.port().to_string(), port);
        assert_eq!(format!("[\"{}\"]", config.data_dir.display()), of_image["VOLUME"]);
    });
}

/// The rules that a linter of such files would check.
#[test]
fn the_image_is_written_as_its_readers_expect() {
    let mut stages = BTreeSet::new();
    for (word, rest) in instructions() {
        match word.as_str() {
            "FROM" => {
                let image = rest.split(' ').next().unwrap();
                let tag = image.rsplit_once(':').map(|(_, tag)| tag);
                assert!(tag.is_some_and(|tag| tag != "latest"), "{image}: which one?");
                stages.extend(rest.split_once(" AS ").map(|(_, stage)| stage.to_owned()));
            }
            "RUN" if rest.contains("apt-get install") => {
                for part in ["apt-get update", "--yes", "--no-install-recommends"] {
                    assert!(rest.contains(part), "{part}: {rest}");
                }
                assert!(rest.ends_with("rm -rf /var/lib/apt/lists/*"), "{rest}");
            }
            "WORKDIR" => assert!(rest.starts_with('/'), "{rest}"),
            "COPY" => {
                let from = rest.split(' ').find_map(|part| part.strip_prefix("--from="));
                assert!(from.is_none_or(|from| stages.contains(from)), "{rest}");
            }
            "CMD" | "ENTRYPOINT" => {
                let words: Vec<String> = serde_json::from_str(&rest).unwrap();
                assert!(!words.is_empty(), "{rest}");
            }
            "ARG" | "RUN" | "LABEL" | "USER" | "ENV" | "VOLUME" | "EXPOSE" | "STOPSIGNAL"
            | "HEALTHCHECK" => {}
            other => panic!("{other} {rest}: not known here"),
        }
    }
}

/// What `.dockerignore` lets through: names at the root; tests are left out.
fn is_sent(path: &Path) -> bool {
    let sent = read(".dockerignore");
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    let is_test = path.components().any(|part| part.as_os_str() == "tests");
    sent.lines().any(|line| line == format!("!{first}")) && !is_test
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("target") => {}
            true => files_below(&path, found),
            false => found.push(path),
        }
    }
}

/// Folders of the crates of the workspace.
fn members() -> Vec<String> {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

#[test]
fn everything_that_is_compiled_is_sent_to_the_engine() {
    for needed in ["Cargo.toml", "Cargo.lock"] {
        assert!(is_sent(Path::new(needed)), "{needed}");
    }
    let root = file("").canonicalize().unwrap();
    let mut included = 0;
    for member in members() {
        assert!(is_sent(Path::new(&member)), "{member}");
        let mut sources = Vec::new();
        files_below(&root.join(&member).join("src"), &mut sources);
        for source in sources.iter().filter(|path| path.extension().is_some_and(|it| it == "rs")) {
            let text = std::fs::read_to_string(source).unwrap();
            for word in ["include_str!(\"", "include_bytes!(\""] {
                for (_, rest) in
                    text.match_indices(word).map(|(at, _)| text[at..].split_at(word.len()))
                {
                    let name = rest.split('"').next().unwrap();
                    let path = source.parent().unwrap().join(name).canonicalize();
                    let path = path.unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(is_sent(path.strip_prefix(&root).unwrap()), "{}", path.display());
                    included += 1;
                }
            }
        }
    }
    assert!(included > 5, "migrations at least are compiled in");
}

/// The first stage leaves manifests with stand-ins for the sources: Cargo must take that for the
/// same workspace.
#[test]
fn the_stand_ins_of_the_first_stage_are_a_workspace() {
    let all = instructions();
    let stage = all.iter().position(|(_, rest)| rest.ends_with(" AS manifests")).unwrap();
    let (_, script) = all[stage..].iter().find(|(word, _)| word == "RUN").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = file("").canonicalize().unwrap();
    let mut sent = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    members().iter().for_each(|member| files_below(&root.join(member), &mut sent));
    for path in sent {
        let path = path.strip_prefix(&root).unwrap();
        if is_sent(path) {
            let copy = folder.path().join(path);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(root.join(path), copy).unwrap();
        }
    }
    let done = Command::new("sh").args(["-e", "-c", script]).current_dir(folder.path()).status();
    assert!(done.unwrap().success(), "{script}");
    let said = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    let packages = found["packages"].as_array().unwrap();
    assert_eq!(packages.len(), members().len());
    let (_, build) = all.iter().find(|(_, rest)| rest.starts_with("cargo build")).unwrap();
    let words: Vec<&str> = build.split(' ').collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1];
    let package = packages.iter().find(|it| it["name"] == after("--package")).unwrap();
    let mut targets = package["targets"].as_array().unwrap().iter();
    let bin = targets.find(|it| it["name"] == after("--bin")).unwrap();
    assert!(Path::new(bin["src_path"].as_str().unwrap()).is_file(), "{bin}");
    let profiles = read("Cargo.toml");
    assert!(profiles.contains(&format!("[profile.{}]", after("--profile"))), "{build}");
}

#[test]
fn the_image_passes_the_engine_s_own_checks_where_there_is_one() {
    let engine =
        |arguments: &[&str]| Command::new("docker").args(arguments).current_dir(file("")).output();
    // A client without an engine fails at once.
    let runs = engine(&["info"]).is_ok_and(|said| said.status.success());
    let has_buildx = runs && engine(&["buildx", "version"]).is_ok_and(|said| said.status.success());
    if has_buildx {
        let said = engine(&["build", "--check", "."]).unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}
