//! The gauges of a Prometheus scrape, read from every room at one moment.

use crate::energy::AlarmKind;

use super::desk::Desk;
use super::metrics::Reading;

/// The whole page.
pub(super) async fn page(desk: &Desk) -> Result<Vec<u8>, prometheus::Error> {
    let mut now = Reading::new();
    devices(desk, &mut now).await?;
    lanes(desk, &mut now)?;
    promises(desk, &mut now)?;
    costs(desk, &mut now)?;
    desk.metrics().page(&now)
}

/// What was measured, and its shares, from one answer of the energy room: they add up at every scrape.
async fn devices(desk: &Desk, now: &mut Reading) -> Result<(), prometheus::Error> {
    for device in desk.devices().await {
        let name = device.name.as_str();
        now.counter(
            "messplus_device_joules_total",
            "What the device's meter counted.",
            &[("device", name), ("source", device.source.as_str())],
            device.measured.joules().0,
        )?;
        for (share, joules) in [
            ("request", device.request),
            ("exploration", device.exploration),
            ("router", device.router),
            ("idle", device.idle),
            ("load", device.load),
            ("unattributed", device.unattributed),
        ] {
            now.counter(
                "messplus_attributed_joules_total",
                "Whose energy it was; the shares of a device add up to what its meter counted.",
                &[("device", name), ("share", share)],
                joules.joules().0,
            )?;
        }
        now.gauge(
            "messplus_device_watts",
            "Mean power over about the last second.",
            &[("device", name)],
            device.watts.0,
        )?;
        now.counter(
            "messplus_energy_gap_seconds_total",
            "Seconds for which the meter gave no reading that could be placed.",
            &[("device", name)],
            device.gap_seconds,
        )?;
        for kind in AlarmKind::ALL {
            let count = device.alarm_counts.get(&kind).copied().unwrap_or(0);
            now.counter(
                "messplus_energy_alarms_total",
                "Troubles of the device's meter.",
                &[("device", name), ("kind", kind.as_str())],
                count as f64,
            )?;
        }
    }
    Ok(())
}

fn lanes(desk: &Desk, now: &mut Reading) -> Result<(), prometheus::Error> {
    for (facts, lane) in desk.models().iter().zip(desk.engine().occupancy()) {
        let labels = [("model", facts.name.as_str())];
        let help = "Requests that wait for a place in the batch.";
        now.gauge("messplus_queue_depth", help, &labels, f64::from(lane.waiting))?;
        let help = "Requests in the running batch.";
        now.gauge(
            "messplus_running_requests",
            help,
            &labels,
            f64::from(lane.running),
        )?;
    }
    for (facts, pages) in desk.models().iter().zip(desk.engine().pages()) {
        let states = [
            ("used", pages.used),
            ("cached", pages.cached),
            ("free", pages.free),
        ];
        for (state, count) in states {
            let labels = [("model", facts.name.as_str()), ("state", state)];
            now.gauge(
                "messplus_kv_pages",
                "Pages of keys and values.",
                &labels,
                count as f64,
            )?;
        }
        now.counter(
            "messplus_preemptions_total",
            "Requests sent back to the queue for want of pages.",
            &[("model", facts.name.as_str())],
            pages.preemptions as f64,
        )?;
    }
    Ok(())
}

fn promises(desk: &Desk, now: &mut Reading) -> Result<(), prometheus::Error> {
    for report in desk.router_report() {
        let labels = [("sla", report.sla.as_str())];
        let help = "Promised share of satisfied requests.";
        now.gauge("messplus_sla_alpha", help, &labels, report.alpha)?;
        if let Some(satisfaction) = report.satisfaction {
            let help = "Share of judged requests that were satisfied.";
            now.gauge("messplus_sla_satisfaction", help, &labels, satisfaction)?;
        }
        let help = "Requests behind the promise; negative is ahead.";
        now.gauge("messplus_virtual_queue", help, &labels, report.queue)?;
        let help = "1 while the promise can be kept.";
        now.gauge(
            "messplus_sla_feasible",
            help,
            &labels,
            f64::from(u8::from(report.feasible)),
        )?;
    }
    Ok(())
}

/// How far expected joules were off over the last answers; nothing of models that have not answered.
fn costs(desk: &Desk, now: &mut Reading) -> Result<(), prometheus::Error> {
    for (name, model) in desk.cost_report().models {
        let labels = [("model", name.as_str())];
        if let Some(error) = model.median_error {
            let help = "Median relative error of the joules expected at the decision.";
            now.gauge("messplus_cost_model_error", help, &labels, error)?;
        }
        if let Some(bias) = model.bias {
            let help = "Joules expected at the decision over final ones, minus 1.";
            now.gauge("messplus_cost_model_bias", help, &labels, bias)?;
        }
    }
    Ok(())
}
