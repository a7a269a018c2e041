//! Migrations only add, so that code may be rolled back without the database.
//!
//! A deployment migrates first and deploys afterwards, and a rollback brings the code back alone: for a while the release before reads and
//! writes the new schema. What that release uses may therefore only be taken away by a migration that says since when nothing uses it,
//! by a comment right above the statement: `-- contract: sync_contacts.nickname, unused since 0061`.
//!
//! It reads words, not SQL: what a function or a policy says inside is looked at as well, which errs on the side of asking.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The mark of a statement that takes something away on purpose.
const MARK: &str = "-- contract:";

/// The last migration of the first release: nothing had used what these replace among themselves.
const FIRST_RELEASE: u32 = 50;

/// How many lines above a statement its mark may stand.
const LINES_ABOVE: usize = 3;

/// Fails with every statement that takes away what the release before may use.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let directory = workspace.root().join("migrations");
    let mut broken = Vec::new();
    for path in files(&directory)? {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        broken.extend(unmarked(&text).into_iter().map(|(line, what)| format!("{name}:{line}: {what}")));
    }
    if !broken.is_empty() {
        bail!(
            "{}\nThe release before still uses what a migration takes away: add first, and take away in a later release, with \
             `{MARK} …, unused since NNNN` above the statement",
            broken.join("\n")
        );
    }
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".up.sql") && is_after_first_release(&name) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A file without a number counts as well: that it has none is told elsewhere.
fn is_after_first_release(name: &str) -> bool {
    name.split('_')
        .next()
        .and_then(|number| number.parse::<u32>().ok())
        .is_none_or(|number| number > FIRST_RELEASE)
}

/// The lines that begin to take something away without a mark, with what they do.
fn unmarked(text: &str) -> Vec<(usize, &'static str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let statement = statement_at(&lines, index);
        let Some(what) = taken_away(&statement) else { continue };
        let above = index.saturating_sub(LINES_ABOVE)..=index;
        let is_marked = lines.get(above).unwrap_or_default().iter().any(|line| is_mark(line));
        // A statement over several lines is told by its first.
        if !is_marked && taken_away(&statement_from(&statement, line)).is_some() {
            found.push((index + 1, what));
        }
    }
    found
}

/// A line without its comment, and the rest of its statement: up to the next semicolon.
fn statement_at(lines: &[&str], index: usize) -> String {
    let mut statement = String::new();
    for line in lines.get(index..).unwrap_or_default() {
        let code = line.split("--").next().unwrap_or_default();
        statement.push_str(&code.replace([';', ','], " "));
        statement.push(' ');
        if code.contains(';') {
            break;
        }
    }
    statement.to_lowercase()
}

/// The statement, if the line itself has the word that matters: each is then told once.
fn statement_from(statement: &str, line: &str) -> String {
    let line = line.split("--").next().unwrap_or_default().to_lowercase();
    let matters = ["drop ", "rename ", "alter column", "add column"].iter().any(|word| line.contains(word));
    if matters { statement.to_owned() } else { String::new() }
}

fn is_mark(line: &str) -> bool {
    line.trim_start().strip_prefix(MARK).is_some_and(|reason| reason.contains("since "))
}

/// What a statement takes away of what an earlier release may read or write.
fn taken_away(statement: &str) -> Option<&'static str> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let follows = |first: &str, others: &[&str]| {
        words.windows(2).any(|pair| matches!(pair, [word, next] if *word == first && others.contains(next)))
    };
    if follows(
        "drop",
        &["table", "view", "column", "function", "procedure", "schema", "type", "role", "materialized"],
    ) {
        return Some("something is dropped");
    }
    if follows("rename", &["to", "column", "constraint"]) {
        return Some("something is renamed");
    }
    if follows("alter", &["column"])
        && (words.contains(&"type") || follows("set", &["not"]) || follows("drop", &["default"]))
    {
        return Some("a column changes its type, or what it takes");
    }
    if follows("add", &["column"])
        && follows("not", &["null"])
        && !words.contains(&"default")
        && !words.contains(&"generated")
    {
        return Some("a new column must be filled in, which the release before does not do");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_something_away_is_told_by_its_line() {
        let cases = [
            "drop table public.sync_tags;",
            "alter table public.sync_contacts\n    drop column nickname;",
            "alter table public.sync_contacts rename column a to b;",
            "alter table public.sync_contacts rename to contacts;",
            "alter table public.sync_contacts alter column age type text;",
            "alter table public.sync_contacts alter column age\n    set not null;",
            "alter table public.sync_contacts add column age integer not null;",
            "DROP FUNCTION public.f(text);",
            "drop view if exists public.sync_health;",
        ];
        for case in cases {
            assert_eq!(unmarked(case).len(), 1, "{case}: {:?}", unmarked(case));
            let marked = format!("-- contract: it, unused since 0061\n{case}");
            assert_eq!(unmarked(&marked), Vec::new(), "{marked}");
            let without_reason = format!("-- contract: because\n{case}");
            assert_eq!(unmarked(&without_reason).len(), 1, "{without_reason}");
        }
        assert_eq!(unmarked("select 1;\n\ndrop table t;").first().map(|(line, _)| *line), Some(3));
    }

    #[test]
    fn the_rule_begins_after_the_first_release() {
        assert!(!is_after_first_release("0050_first_load.up.sql"));
        assert!(is_after_first_release("0051_more.up.sql"));
        assert!(is_after_first_release("more.up.sql"));
    }

    #[test]
    fn a_mark_counts_for_the_statement_below_it_only() {
        let text = "-- contract: a, unused since 0061\ndrop table a;\n\nselect 1;\n\ndrop table b;";
        assert_eq!(unmarked(text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn what_only_adds_passes() {
        for case in [
            "create table public.t (age integer not null);",
            "alter table public.t add column age integer;",
            "alter table public.t add column age integer not null default 0;",
            "alter table public.t alter column age set default 1;",
            "create or replace function public.f() returns void language sql as 'select';",
            "drop trigger if exists t on public.t; -- drop table t",
            "-- drop table t;",
            "drop index public.i;",
        ] {
            assert_eq!(unmarked(case), Vec::new(), "{case}");
        }
    }
}
