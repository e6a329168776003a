//! What the documents say is what happens: every example of every `--help`, and every block of
//! README.md and docs/, is run against a real gateway.
//!
//! Blocks by their info string:
//!
//! - `sh`, `console`: run, all those of a page in one shell, in order, in a folder of their own; a
//!   command that fails fails the test. In `console`, lines that begin with `$ ` are the commands.
//! - `toml`: a configuration that `zapbus check-config` finds no mistake in.
//! - `json`: parses. With a request behind it (`json POST /v1/instances`) it is sent as its body
//!   and must be accepted.
//! - anything else, and whatever says `no-run`: for people only.
//!
//! What an example cannot know is put in by [`world::World::put_in`].

mod blocks;
mod world;

use std::path::{Path, PathBuf};

use futures_util::StreamExt;

use self::{
    blocks::{Block, blocks},
    world::World,
};
use crate::engine::skips_on_postgres;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every command that somebody can type, with the words that lead to it.
fn commands() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::from("zapbus"), zapbus_gateway::cli::description())];
    while let Some((words, command)) = waiting.pop() {
        let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
        for below in shown.filter(|below| below.get_name() != "help") {
            waiting.push((format!("{words} {}", below.get_name()), below.clone()));
        }
        found.push((words, command));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// The lines of the examples in a command's help.
fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_command_has_examples_of_itself() {
    for (words, command) in commands() {
        let examples = examples(&command);
        assert!(!examples.is_empty(), "`{words} --help` has no examples");
        for example in examples {
            // Arguments may stand between the words.
            let mut said = example.split_whitespace();
            let shown = words.split(' ').all(|word| said.any(|it| it.ends_with(word)));
            assert!(shown, "`{words} --help`: {example}");
        }
        assert!(command.get_about().is_some(), "{words}");
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{words}: {id} has no help");
        }
    }
}

#[tokio::test]
async fn every_example_of_every_help_works() {
    if skips_on_postgres("documents speak of a data folder first") {
        return;
    }
    let mut all: Vec<(String, String)> = Vec::new();
    for (words, command) in commands() {
        for example in examples(&command) {
            if all.iter().all(|(_, known)| *known != example) {
                all.push((words.clone(), example));
            }
        }
    }
    assert!(all.len() > 60, "{} examples", all.len());
    // Each has a gateway and a folder of its own.
    futures_util::stream::iter(all)
        .for_each_concurrent(4, |(words, example)| async move {
            if example.contains("zapbus copy") && crate::postgres::programs().is_none() {
                let required = std::env::var("ZAPBUS_TEST_PEERS").as_deref() == Ok("require");
                assert!(!required, "PostgreSQL's programs are not installed");
                crate::postgres::say(&format!("skipped without PostgreSQL: {example}"));
                return;
            }
            let world = World::make(&example).await;
            world.run_example(&words, &example).await;
            world.end().await;
        })
        .await;
}

/// README.md and every page under docs/, but the reference that is made of the help.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![project().join("README.md")];
    let mut waiting = vec![project().join("docs")];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|it| it == "md") && !path.ends_with("cli.md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

#[tokio::test]
async fn every_page_does_what_it_says() {
    if skips_on_postgres("documents speak of a data folder first") {
        return;
    }
    let mut ran = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(project()).unwrap().display().to_string();
        let blocks = blocks(&text);
        let script: Vec<String> = blocks.iter().filter_map(Block::script).collect();
        if !script.is_empty() {
            let script = script.join("\n");
            refuse_strangers(&name, &script);
            let world = World::make(&script).await;
            world.run(&name, &script).await;
            world.end().await;
            ran += 1;
        }
        for block in &blocks {
            world::check(&name, block).await;
        }
    }
    assert!(ran >= 2, "{ran} pages with something to run");
}

/// Programs that a page may call. Anything else could change the machine that the tests run on.
const PROGRAMS: [&str; 14] = [
    "zapbus",
    "./target/release/zapbus",
    "curl",
    "export",
    "source",
    "cd",
    "mkdir",
    "cat",
    "echo",
    "printf",
    "grep",
    "head",
    "tail",
    "true",
];

/// Refuses to run what the list of programs does not name: such a block is for people.
fn refuse_strangers(page: &str, script: &str) {
    for line in script.replace("\\\n", " ").lines() {
        for command in line.split(['|', ';']).flat_map(|part| part.split("&&")) {
            let is_variable = |word: &&str| {
                let name = word.split('=').next().unwrap_or("");
                word.contains('=') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            };
            let program = command.split_whitespace().find(|word| !is_variable(word));
            let known = program.is_none_or(|it| it.starts_with('#') || PROGRAMS.contains(&it));
            assert!(
                known,
                "{page}: tests do not run `{}`: mark its block `no-run`",
                command.trim()
            );
        }
    }
}

#[test]
fn what_would_change_the_machine_is_refused() {
    let refused =
        |script: &str| std::panic::catch_unwind(|| refuse_strangers("x", script)).is_err();
    for harmless in
        ["zapbus doctor | head -1", "A=1 B_C=2 zapbus serve", "# x", "curl a \\\n  b", "A=1"]
    {
        assert!(!refused(harmless), "{harmless}");
    }
    for strange in
        ["systemctl stop zapbus", "zapbus doctor && rm -rf /", "A=1 sudo zapbus", "x | sh"]
    {
        assert!(refused(strange), "{strange}");
    }
}

#[test]
fn few_blocks_are_not_run() {
    let mut left_out = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in blocks(&text).into_iter().filter(|block| block.info.contains("no-run")) {
            left_out.push(format!(
                "{}: {}",
                page.display(),
                block.text.lines().next().unwrap_or("")
            ));
        }
    }
    assert!(left_out.len() <= 30, "{left_out:#?}");
}

const REFERENCE: &str = "\
# Command line

Made from the commands' own `--help`; a test compares. The same as manual pages: `zapbus man --out
<folder>`.

Data goes to standard output, everything else to standard error, so that a pipe gets data only.
Lists are tables on a terminal and in a pipe; `--json` gives the answers as JSON, `--ndjson` a line
of JSON for each entry. Wide commands count first, and ask when somebody sits at the terminal
(`--yes` answers). Times are RFC 3339, or how long ago: `90s`, `15m`, `2h`, `3d`.
";

/// docs/cli.md is made of the help. `INSTA_UPDATE=always` writes it anew.
#[test]
fn the_reference_is_the_help() {
    let (mut connection, mut reference) = (None, String::new());
    for (words, command) in commands() {
        let help = command.term_width(100).render_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let help = help.join("\n");
        let is_connection = |part: &&str| part.starts_with("Connection:");
        let parts: Vec<&str> = help.trim_end().split("\n\n").collect();
        connection =
            connection.or(parts.iter().find(|it| is_connection(it)).map(|it| (*it).to_owned()));
        let asks = parts.iter().any(is_connection);
        let own: Vec<&str> = parts.into_iter().filter(|it| !is_connection(it)).collect();
        let note = if asks { "With the [connection](#connection)'s flags.\n\n" } else { "" };
        reference.push_str(&format!("\n## {words}\n\n{note}```text\n{}\n```\n", own.join("\n\n")));
    }
    let connection = connection.expect("some command asks a gateway");
    let connection = connection.trim_start_matches("Connection:").trim_matches('\n');
    let text = format!(
        "{REFERENCE}\n## Connection\n\nOf every command that asks a gateway.\n\n```text\n{connection}\n```\n{reference}"
    );
    let path = project().join("docs/cli.md");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/cli.md is out of date: INSTA_UPDATE=always writes it anew");
}

#[tokio::test]
async fn every_command_has_a_manual_page_and_every_shell_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = crate::binary::command(folder.path());
        command.args(arguments);
        let said = crate::binary::run(command).await;
        assert_eq!(said.code, 0, "{said:?}");
        said.stdout
    };
    run(&["man", "--out", "man1"]).await;
    for (words, command) in commands() {
        let page = folder.path().join("man1").join(format!("{}.1", words.replace(' ', "-")));
        let page =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{words}: {error}"));
        let example = &examples(&command)[0];
        // A page writes a hyphen that is meant as one with a backslash.
        let page = page.replace("\\*(Aq", "'").replace('\\', "");
        assert!(page.contains(example.as_str()), "{words}: {example}");
    }
    assert!(run(&["man"]).await.starts_with(".ie"), "the first page alone");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]).await;
        assert!(script.contains("deliveries") && script.contains("without-secrets"), "{shell}");
    }
}

#[tokio::test]
async fn colours_are_for_terminals_and_those_who_ask() {
    let gateway = crate::server::Gateway::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    for (variables, coloured) in [
        (&[][..], false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
    ] {
        for arguments in [&["doctor"][..], &["account", "list"], &["--help"]] {
            let mut command = crate::binary::command(folder.path());
            command.env("ZAPBUS_URL", &gateway.url).env("ZAPBUS_TOKEN", gateway.token());
            command.args(arguments).envs(variables.iter().copied());
            let said = crate::binary::run(command).await;
            let found = said.stdout.contains('\u{1b}');
            assert_eq!(found, coloured, "{arguments:?} {variables:?}: {said:?}");
        }
    }
    gateway.stop().await;
}
