//! Licences, wildcards and sources of everything that is built, by the rules of `deny.toml`, read from cargo's metadata.
//!
//! cargo-deny judges the same and more, but building it takes minutes, so that only the scheduled workflow has it. This reads the list of
//! licences from the same file, and takes a second.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::subprocess::output_of;
use crate::workspace::Workspace;

/// The only place that code comes from, beside the checkout itself.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Fails with every package that the rules refuse.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let rules = std::fs::read_to_string(workspace.root().join("deny.toml"))
        .context("deny.toml cannot be read: restore it from version control")?;
    let allowed = allowed_licences(&rules)?;
    let arguments = ["metadata", "--locked", "--format-version", "1"];
    let metadata = output_of(Command::new("cargo").args(arguments).current_dir(workspace.root()))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let refused: Vec<String> = packages
        .context("cargo metadata has no packages")?
        .iter()
        .flat_map(|package| refusals(package, &allowed))
        .collect();
    if !refused.is_empty() {
        bail!("{}", refused.join("\n"));
    }
    Ok(())
}

/// The licences in the section of that name.
fn allowed_licences(rules: &str) -> Result<Vec<String>> {
    let section = rules.split("\n[").find_map(|section| section.strip_prefix("licenses]"));
    let list = section.and_then(|section| section.split_once("allow = [")?.1.split_once(']'));
    let (list, _) = list.context("deny.toml has no list of licences that are allowed")?;
    let allowed: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    ensure!(!allowed.is_empty(), "deny.toml allows no licence");
    Ok(allowed)
}

/// What is wrong with a package of cargo's metadata.
fn refusals(package: &Value, allowed: &[String]) -> Vec<String> {
    let text = |name: &str| package.get(name).and_then(Value::as_str);
    let name = format!("{} {}", text("name").unwrap_or_default(), text("version").unwrap_or_default());
    let mut refused = Vec::new();
    match text("license") {
        None => refused.push(format!("{name} names no licence: use another package")),
        Some(licence) if !is_allowed(licence, allowed) => {
            refused.push(format!(
                "{name} is under {licence}, which deny.toml does not allow: use another package, or allow the licence there"
            ));
        }
        Some(_) => {}
    }
    if let Some(source) = text("source").filter(|source| *source != REGISTRY) {
        refused.push(format!("{name} comes from {source}: take it from the registry"));
    }
    // Who published a package under a wildcard is not ours to mend; cargo's registry takes none anyway.
    let ours = package.get("dependencies").and_then(Value::as_array).filter(|_| text("source").is_none());
    for dependency in ours.into_iter().flatten() {
        let is_wildcard = dependency.get("req").and_then(Value::as_str) == Some("*");
        let has_path = dependency.get("path").is_some_and(|path| !path.is_null());
        if is_wildcard && !has_path {
            let wanted = dependency.get("name").and_then(Value::as_str).unwrap_or_default();
            refused.push(format!("{name} takes any version of {wanted}: name one"));
        }
    }
    refused
}

/// Whether an SPDX expression can be met with licences that are allowed. What is no expression cannot.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // The old form of `OR`, and brackets as words of their own.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    match any_of(&words, allowed) {
        Some((verdict, [])) => verdict,
        _ => false,
    }
}

/// Alternatives, of which one must be allowed. Answers the verdict and the words behind it; none when there is no licence where one
/// belongs.
fn any_of<'a, 'b>(words: &'b [&'a str], allowed: &[String]) -> Option<(bool, &'b [&'a str])> {
    let (mut verdict, mut rest) = all_of(words, allowed)?;
    while let ["OR", behind @ ..] = rest {
        let (next, left) = all_of(behind, allowed)?;
        (verdict, rest) = (verdict || next, left);
    }
    Some((verdict, rest))
}

/// Licences that hold together, each of which must be allowed.
fn all_of<'a, 'b>(words: &'b [&'a str], allowed: &[String]) -> Option<(bool, &'b [&'a str])> {
    let (mut verdict, mut rest) = one(words, allowed)?;
    while let ["AND", behind @ ..] = rest {
        let (next, left) = one(behind, allowed)?;
        (verdict, rest) = (verdict && next, left);
    }
    Some((verdict, rest))
}

fn one<'a, 'b>(words: &'b [&'a str], allowed: &[String]) -> Option<(bool, &'b [&'a str])> {
    match words {
        ["(", inner @ ..] => match any_of(inner, allowed)? {
            (verdict, [")", rest @ ..]) => Some((verdict, rest)),
            _ => None,
        },
        [licence, "WITH", exception, rest @ ..] => {
            let whole = format!("{licence} WITH {exception}");
            Some((allowed.contains(&whole), rest))
        }
        [")" | "OR" | "AND" | "WITH", ..] | [] => None,
        [licence, rest @ ..] => Some((allowed.iter().any(|known| known == licence), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn allowed() -> Vec<String> {
        ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into()
    }

    #[test]
    fn the_list_is_the_one_that_cargo_deny_reads() {
        let allowed = allowed_licences(include_str!("../../../../deny.toml")).unwrap();
        assert!(allowed.contains(&"MIT".to_owned()), "{allowed:?}");
        assert!(allowed.iter().all(|licence| !licence.contains("GPL")), "{allowed:?}");
        assert!(allowed_licences("[bans]\nallow = [\"MIT\"]\n").is_err());
    }

    #[test]
    fn an_expression_is_met_or_not() {
        for met in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "MIT AND ISC",
            "(GPL-3.0 OR MIT) AND ISC",
            "GPL-3.0 OR MIT AND ISC",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(met, &allowed()), "{met}");
        }
        for unmet in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT AND (GPL-3.0 OR LGPL-2.1)",
            "Apache-2.0",
            "MIT WITH LLVM-exception",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT MIT",
            "AND",
        ] {
            assert!(!is_allowed(unmet, &allowed()), "{unmet}");
        }
    }

    #[test]
    fn what_is_refused_is_named_with_what_to_do() {
        let package = |licence: Value, source: Value, requirement: &str, path: Value| {
            let dependency = json!({"name": "other", "req": requirement, "path": path});
            json!({"name": "some", "version": "1.2.3", "license": licence, "source": source, "dependencies": [dependency]})
        };
        let found = |package: &Value| refusals(package, &allowed());
        let null = || Value::Null;
        assert_eq!(found(&package(json!("MIT"), null(), "^1", null())), Vec::<String>::new());
        assert_eq!(found(&package(json!("MIT"), json!(REGISTRY), "^1", null())), Vec::<String>::new());
        assert_eq!(found(&package(json!("MIT"), null(), "*", json!("crates/other"))), Vec::<String>::new());
        for (refused, words) in [
            (package(json!("GPL-3.0"), json!(REGISTRY), "^1", null()), "some 1.2.3 is under GPL-3.0"),
            (package(null(), json!(REGISTRY), "^1", null()), "names no licence"),
            (package(json!("MIT"), json!("git+https://x"), "^1", null()), "comes from git+https://x"),
            (package(json!("MIT"), null(), "*", null()), "takes any version of other"),
        ] {
            let said = found(&refused);
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
        }
    }
}
