//! The ports of one local system.

use std::net::TcpListener;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Which ports a system listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ports {
    /// The product's documented ports; only one system can have them.
    #[default]
    Fixed,
    /// Whatever is free; for tests, which may run side by side.
    Free,
}

/// The ports of one system, all on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortNumbers {
    /// The coordinator worker.
    pub coordinator: u16,
    /// The sync worker.
    pub sync: u16,
    /// The webhook handler.
    pub webhook: u16,
    /// The Keap simulator.
    pub keap: u16,
    /// The embedded Postgres.
    pub postgres: u16,
    /// The pooler between the workers and Postgres, where there is one.
    pub pooler: u16,
    /// The workers' debuggers, in the order coordinator, webhook, sync.
    pub inspectors: [u16; 3],
}

impl PortNumbers {
    /// The product's documented ports.
    pub const FIXED: Self = Self {
        coordinator: 8787,
        sync: 8788,
        webhook: 8789,
        keap: 8900,
        postgres: 8901,
        pooler: 8902,
        inspectors: [9787, 9789, 9788],
    };

    /// Chooses the ports of a new system.
    pub fn choose(choice: Ports) -> Result<Self> {
        match choice {
            Ports::Fixed => Ok(Self::FIXED),
            Ports::Free => free_ports(),
        }
    }

    /// Each port with the name of the part that listens on it.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u16); 9] {
        let [coordinator, webhook, sync] = self.inspectors;
        [
            ("coordinator", self.coordinator),
            ("sync", self.sync),
            ("webhook", self.webhook),
            ("keap simulator", self.keap),
            ("postgres", self.postgres),
            ("pooler", self.pooler),
            ("coordinator's debugger", coordinator),
            ("webhook's debugger", webhook),
            ("sync's debugger", sync),
        ]
    }
}

/// True when nobody listens on the port.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Where free ports are looked for: below the range that systems give to outgoing connections, any of which could take a
/// port between its choice and its use.
const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;

fn free_ports() -> Result<PortNumbers> {
    let mut entropy = [0; 2];
    getrandom::fill(&mut entropy)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    let offset = u16::from_le_bytes(entropy) % (FREE_PORTS.end - FREE_PORTS.start);
    let candidates =
        (FREE_PORTS.start + offset..FREE_PORTS.end).chain(FREE_PORTS.start..FREE_PORTS.start + offset);
    // All listeners stay open until the last port is chosen, so that no port is given twice.
    let listeners: Vec<TcpListener> =
        candidates.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(9).collect();
    let ports = listeners.iter().map(|listener| listener.local_addr().map(|address| address.port()));
    let ports = ports.collect::<Result<Vec<_>, _>>().context("a free port has no address")?;
    let &[coordinator, sync, webhook, keap, postgres, pooler, first, second, third] = ports.as_slice() else {
        anyhow::bail!("no nine free ports on 127.0.0.1");
    };
    Ok(PortNumbers { coordinator, sync, webhook, keap, postgres, pooler, inspectors: [first, second, third] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice() {
        for ports in [PortNumbers::FIXED, PortNumbers::choose(Ports::Free).unwrap()] {
            let distinct: BTreeSet<u16> = ports.named().into_iter().map(|(_, port)| port).collect();
            assert_eq!(distinct.len(), ports.named().len());
        }
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
    }
}
