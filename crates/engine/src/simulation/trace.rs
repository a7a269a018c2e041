//! The trace of a history: always a hash, and on demand its lines.

/// Hash and lines.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    is_told: bool,
    /// What happened, in words.
    pub lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(is_told: bool) -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, is_told, lines: Vec::new() }
    }

    /// Adds to the hash.
    pub(super) fn note(&mut self, now_ms: i64, kind: u64, detail: u64) {
        for number in [now_ms.unsigned_abs(), kind, detail] {
            self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01B3).rotate_left(17);
        }
    }

    /// Adds a line, when lines are wanted.
    pub(super) fn tell(&mut self, at_ms: i64, line: impl FnOnce() -> String) {
        if self.is_told {
            let at = std::time::Duration::from_millis(at_ms.unsigned_abs()).as_secs_f64();
            self.lines.push(format!("{at:>10.3} s  {}", line()));
        }
    }

    /// The hash of all that was noted.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}
