//! What neither clippy nor a test sees: shell scripts, workflow files and migrations.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::contract_rule;
use crate::debian;
use crate::node_tools;
use crate::subprocess::{find_program, output_of, run_shown};
use crate::workspace::Workspace;

/// Linters have nothing to say.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    contract_rule::run(workspace)?;
    shell_scripts(workspace)?;
    workflows(workspace)
}

/// Tracked files below the checkout that end in one of these, or begin with a line for a shell.
fn tracked(workspace: &Workspace, wanted: impl Fn(&str, &str) -> bool) -> Result<Vec<String>> {
    let listing = output_of(Command::new("git").args(["ls-files", "-z"]).current_dir(workspace.root()))?;
    let files = listing.split('\0').filter(|name| !name.is_empty()).filter(|name| {
        let content = std::fs::read_to_string(workspace.root().join(name)).unwrap_or_default();
        wanted(name, content.lines().next().unwrap_or_default())
    });
    Ok(files.map(str::to_owned).collect())
}

fn shell_scripts(workspace: &Workspace) -> Result<()> {
    let scripts = tracked(workspace, |name, first_line| {
        Path::new(name).extension().is_some_and(|extension| extension == "sh")
            || (first_line.starts_with("#!") && first_line.ends_with("sh"))
    })?;
    ensure!(!scripts.is_empty(), "no shell script is tracked: is this a git checkout?");
    if find_program("shellcheck").is_none() {
        debian::install(&["shellcheck"], "shellcheck looks at the shell scripts, and it is missing")?;
    }
    run_shown(
        Command::new("shellcheck").arg("--external-sources").args(&scripts).current_dir(workspace.root()),
    )
    .context("shellcheck has something to say")
}

fn workflows(workspace: &Workspace) -> Result<()> {
    let files = tracked(workspace, |name, _| name.starts_with(".github/workflows/"))?;
    ensure!(!files.is_empty(), "no workflow is tracked: is this a git checkout?");
    let mut found = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(workspace.root().join(file))
            .with_context(|| format!("{file} cannot be read"))?;
        found.extend(unpinned(&text).into_iter().map(|line| {
            format!("{file}:{line}: an action is named by a tag, which can be moved: use its full commit")
        }));
    }
    let node = node_tools::ensure(workspace)?;
    let script = workspace.root().join("crates/xtask/js/lint-workflows.mjs");
    let said = output_of(node.node_command().arg(script).arg(workspace.root()).args(&files))?;
    found.extend(said.lines().map(str::to_owned));
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

/// The lines that use somebody else's action by anything but a commit.
fn unpinned(workflow: &str) -> Vec<usize> {
    let lines = workflow.lines().enumerate().filter(|(_, line)| {
        let Some((_, action)) = line.split_once("uses:") else { return false };
        let action = action.split('#').next().unwrap_or_default().trim();
        if action.starts_with("./") {
            return false;
        }
        let commit = action.rsplit_once('@').map(|(_, commit)| commit).unwrap_or_default();
        commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    lines.map(|(index, _)| index + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_named_by_commits() {
        let workflow = "steps:\n  - uses: actions/checkout@v6\n  - uses: a/b@0123456789abcdef0123456789abcdef01234567 # v1\n  - uses: ./here\n  - uses: c/d@main # 0123456789abcdef0123456789abcdef01234567\n";
        assert_eq!(unpinned(workflow), [2, 5]);
    }
}
