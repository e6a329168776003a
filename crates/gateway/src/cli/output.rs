//! JSON for machines, lines and tables for people.

use std::io::{self, Write};

use serde_json::Value;

/// How headings stand out.
const HEADING: anstyle::Style = anstyle::Style::new().bold();

/// A line that stands out, where the output can show that.
pub(super) fn heading(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{HEADING}{text}{HEADING:#}")
}

/// Pretty JSON with a line end.
pub(super) fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

/// One thing: a line per member, inner ones with their path.
pub(super) fn write_fields(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    let mut lines = Vec::new();
    flatten(value, String::new(), &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, text) in lines {
        writeln!(out, "{name:width$}  {text}")?;
    }
    Ok(())
}

fn flatten(value: &Value, path: String, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(value, path, into);
            }
        }
        Value::Null => {}
        value => into.push((path, plain(value))),
    }
}

/// Several things: a table of the columns, which are paths such as `state.connection`.
pub(super) fn write_table(out: &mut dyn Write, rows: &[Value], columns: &[&str]) -> io::Result<()> {
    let headings = columns.iter().map(|column| column.to_uppercase().replace('.', " ")).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect());
    let table: Vec<Vec<String>> = std::iter::once(headings).chain(cells).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| table.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    for (index, row) in table.iter().enumerate() {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        let line = line.join("  ");
        if index == 0 {
            heading(out, line.trim_end())?;
        } else {
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

fn cell(row: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(row, |value, name| value.get(name));
    found.map(plain).unwrap_or_default()
}

/// Without quotes, and without anything that would move a terminal's cursor.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_lines_up_and_control_characters_are_gone() {
        let rows = [
            json!({"id": "a", "state": {"connection": "connected"}}),
            json!({"id": "long", "state": {"connection": "\u{1b}[31m"}}),
        ];
        let mut out = Vec::new();
        write_table(&mut out, &rows, &["id", "state.connection"]).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert_eq!(text, "ID    STATE CONNECTION\na     connected\nlong   [31m\n");
    }

    #[test]
    fn one_thing_is_told_line_by_line() {
        let mut out = Vec::new();
        write_fields(&mut out, &json!({"id": "a", "channel": {"url": "u"}, "gone": null})).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "id           a\nchannel.url  u\n");
    }
}
