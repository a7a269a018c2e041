//! Files that hold secrets: readable by their owner alone, and never half written.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The permissions of a file with secrets.
const OWNER_ONLY: u32 = 0o600;

/// Writes a file that only its owner may read; a reader sees the old content or the new, never a part.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let scratch = path.with_extension(format!("{}.new", std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(OWNER_ONLY)
            .open(&scratch)?;
        file.write_all(content)?;
        std::fs::rename(&scratch, path)
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}

/// Writes a value as JSON that only its owner may read.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut content = serde_json::to_vec_pretty(value).context("a value has no JSON form")?;
    content.push(b'\n');
    write(path, &content)
}

/// Reads a JSON file; `None` when it is not there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let value = serde_json::from_slice(&content)
        .with_context(|| format!("{} is damaged: delete it and repeat the command", path.display()))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_for_its_owner_alone_and_comes_back_whole() {
        let path = std::env::temp_dir().join(format!("keapsync-xtask-{}-private.json", std::process::id()));
        assert_eq!(read_json::<String>(&path).unwrap(), None);
        write_json(&path, &"secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(read_json::<String>(&path).unwrap().as_deref(), Some("secret"));
        std::fs::remove_file(path).unwrap();
    }
}
