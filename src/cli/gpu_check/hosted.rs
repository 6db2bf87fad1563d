//! Three models on one device through the very lane and meter that serve: joules a token, mixed traffic against one model
//! after another, and whether the accounts add up to the board's own counter.

use std::sync::Arc;
use std::time::Instant;

use super::row::{Row, Verdict};
use super::scale::Scale;
use crate::energy::{
    Account, EnergyHandle, LaneDevice, Meter, MeterChoice, MeterSettings, RequestEnergy, Source, open_meters,
};
use crate::engine::{
    Compute, Engine, EngineSettings, Event, HostSpec, Job, ModelFacts, ModelSource, Precision, Sampling,
    cuda_device, lane_devices,
};
use crate::profile::{Bench, Cell, StepWatch};
use crate::units::{Clock, RequestId, TokenId};

/// Models hosted together, with what measures them.
pub struct Hosted {
    bench: Bench,
    clock: Clock,
    /// A second look at the same counter, which the accounts know nothing of.
    witness: Box<dyn Meter>,
}

pub fn start(scale: &Scale, ordinal: usize) -> Result<Hosted, String> {
    let shapes = [scale.small, scale.middle, scale.large];
    let specs: Vec<HostSpec> = shapes
        .iter()
        .map(|shape| HostSpec {
            name: shape.name.to_owned(),
            source: ModelSource::Random(*shape),
            compute: Compute::Cuda(ordinal),
            precision: Precision::Auto,
            max_context: Some(scale.hosted_context),
            kv_bytes: scale.kv_bytes / 3,
        })
        .collect();
    let lanes: Vec<LaneDevice> = lane_devices(&specs)
        .into_iter()
        .map(|(device, _, name)| LaneDevice {
            device,
            name,
            cuda_ordinal: Some(ordinal),
            cuda_uuid: cuda_device(ordinal).ok().and_then(|facts| facts.uuid),
        })
        .collect();
    let settings = MeterSettings {
        meter: MeterChoice::Auto,
        models: shapes.iter().map(|shape| shape.name.to_owned()).collect(),
        ..MeterSettings::default()
    };
    let open = || open_meters(&settings, &lanes).map_err(|e| e.to_string());
    let witness = open()?.pop().ok_or("no meter could be opened")?;
    let clock = Clock::start();
    let energy = EnergyHandle::start(open()?, &lanes, &settings, clock, None);
    let steps = Arc::new(StepWatch::new(energy.clone()));
    let engine_settings = EngineSettings {
        max_queue: 4 * scale.requests.max(64),
        cuda_step_tokens: scale.step_tokens,
        max_rows: scale.rows,
        prefix_cache: false,
        ..EngineSettings::default()
    };
    let engine = Engine::start(&specs, engine_settings, clock, steps.clone()).map_err(|e| e.to_string())?;
    Ok(Hosted {
        bench: Bench {
            engine,
            energy,
            steps,
        },
        clock,
        witness,
    })
}

impl Hosted {
    fn facts(&self, at: usize) -> ModelFacts {
        self.bench.engine.models()[at].clone()
    }

    /// Watts at rest.
    pub async fn idle(&self, scale: &Scale) -> Result<Row, String> {
        let facts = self.facts(0);
        let watts = self
            .bench
            .watts_over(facts.device, &facts.device_name, scale.idle);
        let watts = watts.await.map_err(|e| e.to_string())?;
        let device = self.bench.device(facts.device, &facts.device_name).await;
        let device = device.map_err(|e| e.to_string())?;
        let found = format!("{:.1} W by {} ({})", watts.0, device.meter, device.source);
        Ok(Row::told("at rest, three models loaded", found)
            .with("watts", watts.0)
            .with("source", device.source.as_str()))
    }

    /// Joules a token of one model at one batch size.
    pub async fn joules(&self, scale: &Scale, model: usize, batch: usize) -> Result<Row, String> {
        let facts = self.facts(model);
        let cell = Cell {
            model: facts.name.clone(),
            batch,
            prompt_tokens: scale.prompt_tokens,
            output_tokens: scale.output_tokens,
        };
        let failed = |e: crate::profile::BenchError| e.to_string();
        let warm = self.bench.repeat(&cell, &facts, 1, 1).await.map_err(failed)?;
        let device = self.bench.device(facts.device, &facts.device_name).await;
        let rounds = self.bench.rounds(warm.lasted, &device.map_err(failed)?);
        let sample = self
            .bench
            .repeat(&cell, &facts, rounds, 2)
            .await
            .map_err(failed)?
            .sample;
        let decode = sample.decode_per_token.map_or(0.0, |joules| joules.0);
        let found = format!(
            "{decode:.3} J a decoded token, {:.4} J a prompt token, {:.0} W, {:.0} tokens/s",
            sample.prefill_per_token.0, sample.watts.0, sample.tokens_per_second
        );
        Ok(
            Row::told(&format!("joules, {}, batch {batch}", facts.name), found)
                .with("decode_joules_per_token", decode)
                .with("prefill_joules_per_token", sample.prefill_per_token.0)
                .with("watts", sample.watts.0)
                .with("tokens_per_second", sample.tokens_per_second)
                .with("gap", sample.has_gap),
        )
    }

    /// The same requests one model after another, then all at once; and the accounts of both together.
    pub async fn mixed(&mut self, scale: &Scale) -> Result<Vec<Row>, String> {
        let facts = self.facts(0);
        let failed = |e: crate::profile::BenchError| e.to_string();
        let before = self
            .bench
            .device(facts.device, &facts.device_name)
            .await
            .map_err(failed)?;
        let counter_before = self.witness.read(self.clock.now()).map_err(|e| e.to_string())?;

        let mut energies = Vec::new();
        let start = Instant::now();
        for model in 0..3 {
            energies.extend(self.serve(scale, &[model]).await?);
        }
        let apart = start.elapsed().as_secs_f64();
        let start = Instant::now();
        energies.extend(self.serve(scale, &[0, 1, 2]).await?);
        let together = start.elapsed().as_secs_f64();

        // The counter's last tick belongs to both looks.
        tokio::time::sleep(scale.idle.div_f64(4.0)).await;
        let counter_after = self.witness.read(self.clock.now()).map_err(|e| e.to_string())?;
        let after = self
            .bench
            .device(facts.device, &facts.device_name)
            .await
            .map_err(failed)?;
        let counted = counter_after.counter.0.saturating_sub(counter_before.counter.0) as f64 / 1e6;
        let measured = after.measured.0.saturating_sub(before.measured.0) as f64 / 1e6;
        let requests: f64 = energies.iter().map(|energy| energy.total().0).sum();
        let booked = after.request.0.saturating_sub(before.request.0) as f64 / 1e6;
        let ratio = apart / together;
        let off = (measured - counted).abs() / counted.max(1e-9);
        let sums_off = (requests - booked).abs() / booked.max(1e-9);
        let exact = after.accounted() == after.measured;
        let accounts = Row::new(
            "accounts against the board's own counter",
            format!(
                "{measured:.1} J booked, {counted:.1} J counted: {:.2} % apart; requests sum to {:.2} % of theirs",
                100.0 * off,
                100.0 * requests / booked.max(1e-9)
            ),
            "≤ 1 %",
            match after.source {
                Source::Nvml => Verdict::of(exact && off <= 0.01 && sums_off <= 0.01),
                // An estimate proves nothing about a counter.
                Source::Rapl | Source::Modelled => Verdict::Cut,
            },
        )
        .with("counted_joules", counted)
        .with("booked_joules", measured)
        .with("request_joules", requests)
        .with("source", after.source.as_str());
        let throughput = Row::new(
            "three models, mixed traffic against one after another",
            format!(
                "{:.0} % of the throughput ({apart:.1} s apart, {together:.1} s together)",
                100.0 * ratio
            ),
            "≥ 90 %",
            Verdict::of(ratio >= 0.9),
        )
        .with("seconds_apart", apart)
        .with("seconds_together", together);
        Ok(vec![throughput, accounts])
    }

    /// Sends every model its requests at once; the joules of all when all have ended.
    async fn serve(&self, scale: &Scale, models: &[usize]) -> Result<Vec<RequestEnergy>, String> {
        let mut streams = Vec::new();
        for request in 0..scale.requests {
            for &model in models {
                let id = RequestId::fresh();
                let job = job(&self.facts(model), scale, id, request as u32);
                let stream = self.bench.engine.submit(job).map_err(|e| e.to_string())?;
                streams.push((id, stream));
            }
        }
        let mut ids = Vec::new();
        for (id, mut stream) in streams {
            loop {
                match stream.recv().await {
                    Some(Event::Done(_)) => break,
                    Some(Event::Failed(error)) => return Err(error.to_string()),
                    Some(Event::Text { .. }) => {}
                    None => return Err("the lane has ended".to_owned()),
                }
            }
            self.bench.energy.finished(id);
            ids.push(id);
        }
        let mut energies = Vec::new();
        for id in ids {
            let settled = self.bench.energy.settled(id).await;
            energies.push(settled.ok_or("a request's joules were never told")?);
        }
        Ok(energies)
    }

    pub async fn close(self) {
        self.bench.engine.shutdown();
        self.bench.energy.shutdown().await;
    }
}

/// A sampled answer that goes on to its full length.
fn job(facts: &ModelFacts, scale: &Scale, id: RequestId, request: u32) -> Job {
    let vocabulary = facts.vocabulary as u32;
    let prompt =
        (0..scale.prompt_tokens as u32).map(|place| TokenId((place * 7919 + request * 104_729) % vocabulary));
    Job {
        account: Account::Request(id),
        model: facts.id,
        prompt: prompt.collect(),
        max_tokens: scale.output_tokens as u32,
        sampling: Sampling {
            temperature: 0.8,
            top_p: 0.95,
            seed: u64::from(request),
            logit_bias: facts.end_tokens.iter().map(|token| (*token, -1e9)).collect(),
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    }
}
