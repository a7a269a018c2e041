//! What goes wrong at Keap while people edit: faults of the simulator that change every few seconds, from calm to storm.

use crate::chaos::random::Random;
use crate::keap::Tenant;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;

/// How long one kind of weather lasts.
pub const SPELL: Duration = Duration::from_secs(3);

/// One kind of weather: the faults that are on at once, each with its chance.
fn faults(random: &mut Random) -> Value {
    // In percent of the full chances below: calm, gusts, storm.
    let strength = random.weighted(&[(2, 0), (3, 40), (3, 100), (1, 300)]).unwrap_or(0);
    let mut chance = |percent: u64| {
        // At most every second call fails, so that something still gets through.
        let hundredths = (percent * strength * (50 + random.below(100)) / 10_000).min(50);
        f64::from(u32::try_from(hundredths).unwrap_or(50)) / 100.0
    };
    let mut faults = vec![
        json!({"kind": "latency", "ms": 80, "probability": chance(20)}),
        json!({"kind": "status", "status": 429, "retry_after_s": 1, "probability": chance(4)}),
        json!({"kind": "status", "status": 500, "probability": chance(3)}),
        json!({"kind": "status", "status": 503, "probability": chance(4)}),
        json!({"kind": "timeout_before", "ms": 400, "probability": chance(3)}),
        json!({"kind": "timeout_after", "ms": 400, "probability": chance(4)}),
        json!({"kind": "invalid_json", "probability": chance(2)}),
        json!({"kind": "hook_lost", "probability": chance(12)}),
        json!({"kind": "hook_duplicate", "probability": chance(15)}),
        json!({"kind": "hook_delay", "ms": 2_500, "probability": chance(15)}),
        json!({"kind": "hook_reorder", "ms": 1_500, "probability": chance(15)}),
    ];
    faults.retain(|fault| fault["probability"].as_f64() > Some(0.0));
    Value::Array(faults)
}

/// Lets the weather of spell `number` begin.
pub async fn change(keap: &Tenant, seed: u64, number: u64) -> Result<()> {
    let faults = faults(&mut Random::of(seed, "weather", number));
    keap.clear_faults().await?;
    if faults != json!([]) {
        keap.faults(&faults).await?;
    }
    Ok(())
}

/// Keap answers nothing but that it is down.
pub async fn break_down(keap: &Tenant) -> Result<()> {
    let down = |operation: Value| json!({"kind": "status", "status": 503, "operation": operation});
    keap.clear_faults().await?;
    keap.faults(&json!([down(Value::Null), down("token".into())])).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_fault_comes_and_calm_comes_too() {
        let spells: Vec<Value> =
            (0..200).map(|number| faults(&mut Random::of(1, "weather", number))).collect();
        assert!(spells.contains(&json!([])));
        let kinds: BTreeSet<&str> = spells
            .iter()
            .flat_map(|spell| spell.as_array().unwrap())
            .filter_map(|fault| fault["kind"].as_str())
            .collect();
        assert_eq!(kinds.len(), 9, "{kinds:?}");
    }
}
