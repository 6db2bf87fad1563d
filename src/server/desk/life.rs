//! A request from its dispatch to its last joule.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{self, UnboundedSender};

use crate::energy::RequestEnergy;
use crate::router::{LabelSource, RouterEvent};
use crate::server::metrics::Ending;
use crate::server::wire::{Ask, Timing, Usage};
use crate::store::Commit;
use crate::units::{Joules, ModelId, RequestId};

use super::dispatch::{Dispatched, Exploration, millis};
use super::ear::Ear;
use super::feedback::verdict;
use super::labels;
use super::piece::{Answer, Piece, Summary};
use super::plan::{Aim, Plan};
use super::pump::{Heard, Spoken, listen, pump};
use super::story::{Explored, Finish, Story, share_matching};
use super::{DeskError, Inner};

/// How long an answer is held back for the meter's next tick. Longer would be felt; a slower meter's joules come
/// out as provisional and are settled behind the client's back.
const METER_PATIENCE: Duration = Duration::from_millis(30);
/// How long joules are waited for in the background before they are taken as they are.
pub(super) const SETTLE_PATIENCE: Duration = Duration::from_secs(30);

/// A cancelled job leaves its lane at the next step; its joules are complete when the step under way is recorded.
const LAST_STEP: Duration = Duration::from_millis(300);

/// Everything that a request under way drags along.
struct Errand {
    plan: Plan,
    arrived: Instant,
    arrived_at: SystemTime,
    route: Duration,
    dispatched: Dispatched,
}

impl Inner {
    /// Plans, chooses and starts a request. Its life goes on in a task of its own, so that it is booked and recorded
    /// whatever becomes of the client.
    pub(super) async fn answer(self: &Arc<Self>, request: RequestId, ask: Ask) -> Result<Answer, DeskError> {
        let (arrived, arrived_at) = (Instant::now(), SystemTime::now());
        let plan = self.plan(request, ask).await?;
        let embedding = self.look(&plan).await;
        let dispatched = self.dispatch(&plan, embedding)?;
        let route = arrived.elapsed();
        let (client, pieces) = mpsc::unbounded_channel();
        let answer = Answer {
            request,
            model: dispatched.facts.name.clone(),
            choices: dispatched.streams.len(),
            prompt_tokens: prompt_tokens(&plan, &dispatched),
            pieces,
        };
        let errand = Errand {
            plan,
            arrived,
            arrived_at,
            route,
            dispatched,
        };
        let (desk, life) = (Arc::clone(self), self.lives.begin());
        tokio::spawn(async move {
            desk.live(errand, client).await;
            drop(life);
        });
        Ok(answer)
    }

    async fn live(self: &Arc<Self>, mut errand: Errand, client: UnboundedSender<Piece>) {
        let streams = std::mem::take(&mut errand.dispatched.streams);
        let model = errand.dispatched.facts.id;
        let mut spoken = vec![Spoken::default(); streams.len()];
        // Explored answers are listened to beside the client's; when that one comes to nothing, so do they.
        let explorations = std::mem::take(&mut errand.dispatched.explorations);
        let accounts: Vec<RequestId> = explorations
            .iter()
            .map(|exploration| exploration.account)
            .collect();
        let explored = Box::pin(self.gather(explorations, &errand.plan.ask));
        let form = self.engine.call_form(model);
        let tools = errand.plan.ask.tools.as_ref();
        let mut ears: Vec<Ear> = (0..spoken.len())
            .map(|choice| Ear::new(errand.plan.request, choice, tools, &form))
            .collect();
        let heard = pump(streams, &client, model, &self.metrics, &mut ears, &mut spoken).await;
        let mut story = self.story(&errand, spoken);
        story.exploring = !accounts.is_empty();
        story.finish = match heard {
            Heard::All => {
                return self
                    .complete(story, errand.dispatched.decided.take(), explored, &client)
                    .await;
            }
            Heard::ClientGone => Finish::Cancelled,
            Heard::Failed(error) => {
                story.error = Some(error.to_string());
                let _ = client.send(Piece::Failed(error));
                Finish::Failed
            }
        };
        drop((client, explored));
        self.abandon(story, accounts).await;
    }

    fn story(&self, errand: &Errand, spoken: Vec<Spoken>) -> Story {
        let plan = &errand.plan;
        let timings: Vec<_> = spoken
            .iter()
            .filter_map(|said| said.outcome.as_ref())
            .map(|done| done.timing)
            .collect();
        let first = timings.iter().map(|timing| timing.first_token).min();
        // Jobs reach their lane before the decision is logged, so the lane's part is counted back from the end.
        let total = errand.arrived.elapsed();
        let in_lane = timings
            .iter()
            .map(|timing| timing.total)
            .max()
            .unwrap_or_default();
        let before_lane = total.saturating_sub(in_lane);
        if let Some(first) = first {
            self.metrics
                .first_token(errand.dispatched.facts.id, before_lane + first);
        }
        Story {
            request: plan.request,
            arrived_at: errand.arrived_at,
            sla: match &plan.aim {
                Aim::Routed { name, .. } => Some(name.clone()),
                Aim::Named(_) => None,
            },
            facts: errand.dispatched.facts.clone(),
            decision: errand.dispatched.decision.clone(),
            prompt: plan.words.clone(),
            reference: plan.ask.reference.clone(),
            usage: usage(plan, &errand.dispatched, &spoken),
            finish: Finish::of(&spoken),
            answers: spoken.into_iter().map(|said| said.text).collect(),
            timing: Timing {
                queue_ms: timings
                    .iter()
                    .map(|timing| millis(timing.queued))
                    .fold(0.0, f64::max),
                route_ms: millis(errand.route),
                first_token_ms: first.map_or(0.0, |first| millis(before_lane + first)),
                engine_ms: millis(in_lane),
                total_ms: millis(total),
            },
            energy: None,
            judged: None,
            labels: Vec::new(),
            judging: Joules(0.0),
            explored: Vec::new(),
            exploring: false,
            labelling: false,
            wasted: Joules(0.0),
            error: None,
        }
    }

    /// The answer is whole: settle, judge, log, tell the client; what is not settled by then is settled after.
    async fn complete(
        self: &Arc<Self>,
        mut story: Story,
        decided: Option<Commit>,
        explored: impl Future<Output = Vec<Explored>>,
        client: &UnboundedSender<Piece>,
    ) {
        self.energy.finished(story.request);
        story.energy = self.energy_within(story.request, METER_PATIENCE).await;
        let settled = story.is_settled();
        story.labelling = self.is_to_be_labelled(&story);
        story.judged = story
            .reference
            .as_ref()
            .map(|reference| share_matching(reference, &story.answers));
        let logged = self.log_answer(&story, settled, decided).await;
        self.metrics
            .ended(Some(story.facts.id), story.sla.as_deref(), Ending::Answered);
        self.tell(&story);
        let last = match logged {
            Ok(()) => Piece::Finished(Box::new(Summary {
                usage: story.usage,
                extension: story.extension(self.engine.models()),
            })),
            Err(error) => Piece::Failed(error),
        };
        // A client that has gone by now has had its answer.
        let _ = client.send(last);
        if story.is_final() {
            return;
        }
        story.explored = explored.await;
        story.exploring = false;
        if std::mem::take(&mut story.labelling) {
            self.label(&mut story).await;
        }
        let mut events = Vec::new();
        if !settled {
            story.energy = self.energy_within(story.request, SETTLE_PATIENCE).await;
            events.extend(self.finished(&story));
        }
        for other in &story.explored {
            events.extend(other.finished(story.request));
            events.extend(self.judged(&story, other.model, other.judged));
        }
        events.extend(labels::events(&story));
        self.note_behind(&events, &story).await;
    }

    /// Makes the decision, the record, the joules and the reference's verdict durable.
    async fn log_answer(
        self: &Arc<Self>,
        story: &Story,
        settled: bool,
        decided: Option<Commit>,
    ) -> Result<(), DeskError> {
        let cost = if settled { self.finished(story) } else { None };
        let record = story.record(self.engine.models());
        self.tell_request(&record);
        let recorded = self.docket.note(cost.as_slice(), record);
        let judged = self.judge_by_reference(story).await?;
        for commit in [decided, Some(recorded), judged].into_iter().flatten() {
            commit.await?;
        }
        Ok(())
    }

    /// A reference speaks like a user, only at once.
    async fn judge_by_reference(self: &Arc<Self>, story: &Story) -> Result<Option<Commit>, DeskError> {
        let Some(satisfied) = story.judged else {
            return Ok(None);
        };
        let event = self.judged(story, story.facts.id, story.judged);
        let (desk, request) = (Arc::clone(self), story.request);
        let told = tokio::task::spawn_blocking(move || {
            desk.docket
                .judge(request, verdict(satisfied, "reference"), event, None)
        });
        let receipt = told.await.map_err(|_| DeskError::Lost)??;
        Ok(Some(receipt.commit))
    }

    /// The answer came to nothing: it does not count for the promise, but its joules do, and so do those of the
    /// explored answers that end with it.
    async fn abandon(&self, mut story: Story, explorations: Vec<RequestId>) {
        let ending = match story.finish {
            Finish::Cancelled => Ending::Cancelled,
            _ => Ending::Failed,
        };
        self.metrics
            .ended(Some(story.facts.id), story.sla.as_deref(), ending);
        let withdrawn = story.decision.as_ref().map(|_| RouterEvent::Withdrawn {
            request: story.request,
        });
        self.note_behind(withdrawn.as_slice(), &story).await;
        tokio::time::sleep(LAST_STEP).await;
        for account in std::iter::once(&story.request).chain(&explorations) {
            self.energy.finished(*account);
        }
        story.energy = self.energy_within(story.request, SETTLE_PATIENCE).await;
        for account in explorations {
            let spent = self.energy_within(account, SETTLE_PATIENCE).await;
            story.wasted += spent.map_or(Joules(0.0), |energy| energy.exploration);
        }
        story.exploring = false;
        self.tell(&story);
        self.note_behind(&[], &story).await;
    }

    /// One line a request.
    fn tell(&self, story: &Story) {
        tracing::info!(
            request = %story.request,
            model = story.facts.name,
            sla = story.sla.as_deref(),
            explored = story.decision.as_ref().map(|decision| decision.explored),
            finish = story.finish.word(),
            prompt_tokens = story.usage.prompt_tokens,
            completion_tokens = story.usage.completion_tokens,
            joules = story.energy.map(|energy| energy.total().0),
            settled = story.is_settled(),
            first_token_ms = story.timing.first_token_ms,
            milliseconds = story.timing.total_ms,
            error = story.error,
            "request over"
        );
    }

    /// Logs what no client waits for.
    async fn note_behind(&self, events: &[RouterEvent], story: &Story) {
        let record = story.record(self.engine.models());
        self.tell_request(&record);
        let commit = self.docket.note(events, record);
        if let Err(error) = commit.await {
            tracing::error!(request = %story.request, %error, "what came after the answer is not in the log");
        }
    }

    /// The settled joules of a request, or after `patience` what is known of them.
    pub(super) async fn energy_within(
        &self,
        request: RequestId,
        patience: Duration,
    ) -> Option<RequestEnergy> {
        match tokio::time::timeout(patience, self.energy.settled(request)).await {
            Ok(Some(energy)) => Some(energy),
            _ => self.energy.request(request).await,
        }
    }

    /// The event that tells the router what an answer cost; the figure also goes to the histograms.
    fn finished(&self, story: &Story) -> Option<RouterEvent> {
        let energy = story.energy?;
        self.metrics
            .settled(story.facts.id, energy.prefill.0, energy.decode.0);
        story.decision.as_ref()?;
        Some(RouterEvent::Finished {
            request: story.request,
            model: story.facts.id,
            prompt_tokens: story.usage.prompt_tokens,
            cached_tokens: story.usage.cached_tokens,
            output_tokens: story.usage.completion_tokens,
            joules: energy.total(),
            exploration: false,
        })
    }

    /// The event of a judgement by reference, for requests that the router decided under a promise that trusts it.
    fn judged(&self, story: &Story, model: ModelId, satisfied: Option<f64>) -> Option<RouterEvent> {
        story.decision.as_ref()?;
        let weight = self.trust(story.sla.as_deref()).reference;
        (weight > 0.0).then_some(RouterEvent::Judged {
            request: story.request,
            model,
            satisfied: satisfied?,
            weight,
            source: LabelSource::Reference,
            decision: None,
        })
    }

    /// All explored answers, judged and with their joules.
    async fn gather(&self, explorations: Vec<Exploration>, ask: &Ask) -> Vec<Explored> {
        let reference = ask.reference.clone();
        let each = explorations.into_iter().map(|exploration| {
            let reference = reference.as_ref();
            async move {
                let Exploration {
                    account,
                    model,
                    streams,
                } = exploration;
                let said = listen(streams).await;
                self.energy.finished(account);
                let energy = self.energy_within(account, SETTLE_PATIENCE).await;
                Some(Explored::new(model, said?, energy, reference))
            }
        });
        futures_util::future::join_all(each)
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

fn prompt_tokens(plan: &Plan, dispatched: &Dispatched) -> u32 {
    let by_model = plan.prompt_tokens();
    by_model.get(dispatched.facts.id.index()).copied().unwrap_or(0)
}

/// Tokens in and out. A prompt counts once however many answers it gets.
fn usage(plan: &Plan, dispatched: &Dispatched, spoken: &[Spoken]) -> Usage {
    let n = plan.ask.n.max(1) as usize;
    let outcomes = || {
        spoken
            .iter()
            .enumerate()
            .filter_map(|(choice, said)| Some((choice, said.outcome.as_ref()?)))
    };
    Usage {
        prompt_tokens: prompt_tokens(plan, dispatched),
        cached_tokens: outcomes()
            .filter(|(choice, _)| choice % n == 0)
            .map(|(_, done)| done.cached_tokens)
            .sum(),
        completion_tokens: spoken
            .iter()
            .map(|said| {
                said.outcome
                    .as_ref()
                    .map_or(said.pieces, |done| done.completion_tokens)
            })
            .sum(),
    }
}
