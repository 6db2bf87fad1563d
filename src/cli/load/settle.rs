//! Joules are final only when the meter has ticked past an answer's last step: those that were not are fetched
//! afterwards, so that the result rests on what was measured and not on what was foreseen.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::tally::{Spent, Tally};

/// A meter ticks some ten times a second; who has not settled by then will not.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The energy an answer or a request's record tells of.
pub fn spent(said: &Value) -> Option<Spent> {
    let energy = [&said["messplus"]["energy"], &said["energy"]]
        .into_iter()
        .find(|place| place.is_object())?;
    let joules = energy["joules"].as_f64();
    let parts = || Some(energy["prefill_joules"].as_f64()? + energy["decode_joules"].as_f64()?);
    Some(Spent {
        joules: joules.or_else(parts)?,
        exploration: energy["exploration_joules"].as_f64().unwrap_or(0.0),
        source: energy["source"].as_str().unwrap_or("unknown").into(),
        is_final: energy["final"].as_bool().unwrap_or(false),
    })
}

/// Fetches the final joules of every answer that lacks them. Gives the number that still do.
pub async fn settle(client: &Client, tally: &mut Tally, concurrency: usize) -> usize {
    let start = Instant::now();
    loop {
        let open: Vec<(usize, String)> = tally
            .answers
            .iter()
            .enumerate()
            .filter(|(_, answer)| !answer.energy.as_ref().is_some_and(|e| e.is_final))
            .filter_map(|(index, answer)| Some((index, answer.request_id.clone()?)))
            .collect();
        if open.is_empty() || start.elapsed() > PATIENCE {
            return open.len();
        }
        let fetched: Vec<(usize, Option<Spent>)> = stream::iter(open.iter())
            .map(|(index, id)| async move { (*index, client.record(id).await.ok().as_ref().and_then(spent)) })
            .buffer_unordered(concurrency)
            .collect()
            .await;
        // A server that keeps no records, or is gone, will not tell the next time either.
        if fetched.iter().all(|(_, spent)| spent.is_none()) {
            return open.len();
        }
        let mut waiting = false;
        for (index, spent) in fetched {
            if let Some(spent) = spent {
                waiting |= !spent.is_final;
                tally.answers[index].energy = Some(spent);
            }
        }
        if waiting {
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn energy_is_read_from_answers_and_records() {
        let energy = json!({"joules": 2.0, "exploration_joules": 0.5, "source": "nvml", "final": true});
        let wanted = Spent {
            joules: 2.0,
            exploration: 0.5,
            source: "nvml".into(),
            is_final: true,
        };
        assert_eq!(
            spent(&json!({"messplus": {"energy": energy}})),
            Some(wanted.clone())
        );
        assert_eq!(spent(&json!({"energy": energy})), Some(wanted));
        let parts = json!({"energy": {"prefill_joules": 0.5, "decode_joules": 1.0, "source": "rapl", "final": false}});
        assert_eq!(spent(&parts).map(|s| (s.joules, s.is_final)), Some((1.5, false)));
        assert_eq!(spent(&json!({"energy": {}})), None);
        assert_eq!(spent(&json!({})), None);
    }
}
