//! Fenced blocks of a Markdown page.

/// What stands between two fences.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Behind the first fence.
    pub(super) info: String,
    /// Between them.
    pub(super) text: String,
}

impl Block {
    /// The language it is in.
    pub(super) fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or("")
    }

    /// What a shell runs of it.
    pub(super) fn script(&self) -> Option<String> {
        if self.info.contains("no-run") {
            return None;
        }
        match self.language() {
            "sh" | "bash" | "shell" => Some(self.text.clone()),
            "console" => {
                let commands = self.text.lines().filter_map(|line| line.strip_prefix("$ "));
                Some(commands.collect::<Vec<_>>().join("\n"))
            }
            _ => None,
        }
    }
}

/// The blocks of a page, in order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block { info: info.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block that does not end");
    found
}

#[test]
fn blocks_are_found_with_what_they_are() {
    let page = "a\n```sh\nb\n```\n```console no-run\n$ c\n```\n```console\n$ d\nsaid\n```\n";
    let found = blocks(page);
    let scripts: Vec<Option<String>> = found.iter().map(Block::script).collect();
    assert_eq!(scripts, [Some("b\n".to_owned()), None, Some("d".to_owned())]);
}
