//! What measuring costs: the energy thread's share of a core and its reads, beside a card that ticks every 100 ms and
//! whose every read computes for 50 µs, under 200 steps a second. Run by `scripts/meter_overhead.sh`, because a figure
//! of time is nothing to fail a build by.

use std::time::{Duration, Instant};

use messplus::energy::{
    Account, EnergyHandle, LaneDevice, MeterChoice, MeterSettings, StepRecord, StepRow, open_meters,
};
use messplus::units::{Clock, DeviceId, ModelId, RequestId};

const STEP: Duration = Duration::from_millis(5);
const ROWS: usize = 8;

/// CPU seconds of this process's thread `energy`, by Linux's scheduler.
fn energy_thread_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let thread = tasks
        .map(|task| task.unwrap().path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "energy"))
        .expect("the energy thread runs");
    let spent = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    spent.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}

/// Runs `steps` steps of 5 ms, half of each worked, and a request in every twenty.
fn work(handle: &EnergyHandle, clock: &Clock, steps: u64) {
    let begun = Instant::now();
    for n in 0..steps {
        let start = clock.now();
        handle.begin_step(DeviceId(0), start);
        std::thread::sleep(STEP / 2);
        let row = |row: usize| StepRow {
            account: Account::Request(RequestId(n / 20 * ROWS as u64 + row as u64)),
            prefill_tokens: 0,
            decode_tokens: 1,
            context: 300,
        };
        handle.record(StepRecord {
            device: DeviceId(0),
            model: ModelId((n % 3) as u16),
            start,
            end: clock.now(),
            rows: (0..ROWS).map(row).collect(),
        });
        if n % 20 == 19 {
            (0..ROWS as u64).for_each(|row| handle.finished(RequestId(n / 20 * ROWS as u64 + row)));
        }
        std::thread::sleep((STEP * (n as u32 + 1)).saturating_sub(begun.elapsed()));
    }
}

#[test]
#[ignore = "prints a figure of time; scripts/meter_overhead.sh runs it"]
fn the_energy_threads_share_of_a_core() {
    let lane = LaneDevice {
        device: DeviceId(0),
        name: "gpu".to_owned(),
        cuda_ordinal: None,
        cuda_uuid: None,
    };
    let settings = |meter| MeterSettings {
        meter,
        nvml_library: Some(nvml_standin::library()),
        ..MeterSettings::default()
    };
    for (name, meter) in [("nvml", MeterChoice::Nvml), ("modelled", MeterChoice::Modelled)] {
        let clock = Clock::start();
        let settings = settings(meter);
        let lanes = std::slice::from_ref(&lane);
        let handle = EnergyHandle::start(
            open_meters(&settings, lanes).unwrap(),
            lanes,
            &settings,
            clock,
            None,
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(handle.devices());
        let mut before = (energy_thread_seconds(), 0);
        for (seconds, phase) in [(4, "the meter's test and learning"), (20, "steady")] {
            let begun = Instant::now();
            work(&handle, &clock, seconds * 200);
            let device = runtime.block_on(handle.devices()).remove(0);
            let (spent, wall) = (energy_thread_seconds(), begun.elapsed().as_secs_f64());
            println!(
                "{name}, {phase}: {:.2} % of a core, {:.1} reads/s, {} late steps, {:?}",
                (spent - before.0) / wall * 100.0,
                (device.reads - before.1) as f64 / wall,
                device.late_steps,
                device.check.state,
            );
            before = (spent, device.reads);
        }
        runtime.block_on(handle.shutdown());
        // The next one is found by the same name.
        std::thread::sleep(Duration::from_millis(200));
    }
}
