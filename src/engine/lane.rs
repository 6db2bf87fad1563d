//! The lane: the one thread that touches a device. It takes jobs in, runs one step of one model at a time and sends
//! text out; nobody waits for it and it waits for nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::StepSink;
use super::board::Board;
use super::host::{Host, Ticket};
use super::plan::Need;
use super::request::{EngineError, Event};
use super::sequence::{Arrival, Sequence};
use super::turns::Turns;
use crate::energy::{StepRecord, StepRow};
use crate::model::{Batch, Logits};
use crate::units::{Clock, DeviceId, Moment};

/// Limits of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepLimits {
    /// Tokens of a step, decode rows and prefill chunks together.
    pub tokens: usize,
    /// Sequences of one model that run at the same time.
    pub rows: usize,
}

pub enum Command {
    Submit(Arrival),
    Stop,
}

pub struct Lane {
    device: DeviceId,
    hosts: Vec<Host>,
    turns: Turns,
    limits: StepLimits,
    next_ticket: u64,
    board: Arc<Board>,
    sink: Arc<dyn StepSink>,
    clock: Clock,
    last_finish: Option<Moment>,
}

impl Lane {
    pub fn new(
        device: DeviceId,
        hosts: Vec<Host>,
        limits: StepLimits,
        board: Arc<Board>,
        sink: Arc<dyn StepSink>,
        clock: Clock,
    ) -> Self {
        let turns = Turns::new(hosts.len());
        Self {
            device,
            hosts,
            turns,
            limits,
            next_ticket: 0,
            board,
            sink,
            clock,
            last_finish: None,
        }
    }

    /// Serves until told to stop or until nobody can send any more; what runs then is failed.
    pub fn run(mut self, commands: &Receiver<Command>) {
        while self.take_commands(commands) {
            self.drop_abandoned();
            let has_work: Vec<bool> = self.hosts.iter().map(Host::has_work).collect();
            if let Some(model) = self.turns.next(&has_work) {
                self.step(model);
            }
        }
        for host in &mut self.hosts {
            for (_, sequence) in std::mem::take(&mut host.waiting)
                .into_iter()
                .chain(std::mem::take(&mut host.running))
            {
                sequence.close(Event::Failed(EngineError::ShuttingDown));
            }
        }
    }

    /// Takes all commands there are; without work it sleeps until one comes. False when the lane is to end.
    fn take_commands(&mut self, commands: &Receiver<Command>) -> bool {
        let mut idle = !self.hosts.iter().any(Host::has_work);
        loop {
            let command = if idle {
                idle = false;
                commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                commands.try_recv()
            };
            match command {
                Ok(Command::Submit(arrival)) => {
                    let model = arrival.job.model;
                    let Some(host) = self.hosts.iter_mut().find(|h| h.id == model) else {
                        continue;
                    };
                    let ticket = Ticket(self.next_ticket);
                    self.next_ticket += 1;
                    host.waiting.insert(ticket, Sequence::new(arrival));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Forgets sequences whose client has gone; their pages come free.
    fn drop_abandoned(&mut self) {
        for model in 0..self.hosts.len() {
            let host = &mut self.hosts[model];
            let running = host.running.len();
            host.running.retain(|_, s| !s.is_abandoned());
            host.waiting.retain(|_, s| !s.is_abandoned());
            if host.running.len() != running {
                self.show(model);
            }
        }
    }

    fn show(&self, model: usize) {
        let host = &self.hosts[model];
        self.board.set_running(host.id.index(), host.running.len());
        self.board
            .set_pages(host.id.index(), host.pool.in_use(), host.pool.free());
    }

    fn step(&mut self, model: usize) {
        self.admit(model);
        let wanted = self.hosts[model].plan(self.limits.tokens);
        let step = self.secure_pages(model, &wanted);
        if step.is_empty() {
            // Only a sequence older than all here can hold the memory: let its model go on.
            self.turns.charge(model, 1.0);
            return;
        }
        let host = &mut self.hosts[model];
        let mut batch = Batch::default();
        let mut rows = Vec::with_capacity(step.len());
        for need in &step {
            let sequence = &host.running[&need.key];
            let (prefill_tokens, decode_tokens) = sequence.split(need.tokens);
            let first = sequence.computed();
            batch.push(
                sequence.pending(need.tokens),
                first,
                sequence.job.prompt.len(),
                sequence.page_numbers(),
                sequence.remaining() == need.tokens,
            );
            rows.push(StepRow {
                account: sequence.job.account,
                prefill_tokens,
                decode_tokens,
                context: (first + need.tokens) as u32,
            });
        }

        let start = self.clock.now();
        for need in &step {
            if let Some(sequence) = host.running.get_mut(&need.key) {
                sequence.start(start);
            }
        }
        self.sink.begin_step(self.device, start);
        let decoder = &mut host.decoder;
        let computed = catch_unwind(AssertUnwindSafe(|| decoder.forward(&batch)));
        let mut ended = match computed {
            Ok(Ok(mut logits)) => self.deliver(model, &step, &mut logits),
            Ok(Err(error)) => self.fail(model, &step, &error.to_string()),
            Err(_) => self.fail(model, &step, "the computation panicked"),
        };
        let end = self.clock.now();
        let id = self.hosts[model].id;
        self.sink.record(StepRecord {
            device: self.device,
            model: id,
            start,
            end,
            rows,
        });
        self.turns.charge(model, end.seconds_since(start));
        // Only now: whoever hears that a request has ended may rely on all its steps being recorded and on the
        // board's knowing that its row and pages are free.
        ended
            .iter_mut()
            .for_each(|(sequence, _)| sequence.release_pages());
        self.show(model);
        for (sequence, event) in ended {
            sequence.close(event);
            if let Some(last) = self.last_finish.replace(end) {
                self.board.finished_after(end.seconds_since(last));
            }
        }
    }

    /// Lets waiting sequences run, oldest first, while there are rows left.
    fn admit(&mut self, model: usize) {
        let host = &mut self.hosts[model];
        while host.running.len() < self.limits.rows
            && let Some((ticket, mut sequence)) = host.waiting.pop_first()
        {
            sequence.leave_queue();
            host.running.insert(ticket, sequence);
        }
    }

    /// Gets the pages that each part of a step needs, oldest sequence first. Parts whose sequence had to give way
    /// are left out.
    fn secure_pages(&mut self, model: usize, wanted: &[Need<Ticket>]) -> Vec<Need<Ticket>> {
        let mut by_age = wanted.to_vec();
        by_age.sort_unstable_by_key(|need| need.key);
        for need in by_age {
            while let Some(sequence) = self.hosts[model].running.get(&need.key)
                && sequence.pages_missing(need.tokens) > 0
            {
                match self.find_page(model, need.key) {
                    Some(page) => {
                        if let Some(sequence) = self.hosts[model].running.get_mut(&need.key) {
                            sequence.add_page(page);
                        }
                    }
                    None => self.hosts[model].preempt(need.key),
                }
            }
        }
        let running = &self.hosts[model].running;
        wanted
            .iter()
            .copied()
            .filter(|need| running.contains_key(&need.key))
            .collect()
    }

    /// A page for `ticket`: a free one, else one of another model's idle ones, else from the youngest sequence of
    /// the lane, as long as that is younger. The oldest of all therefore always comes through.
    fn find_page(&mut self, model: usize, ticket: Ticket) -> Option<super::pages::Page> {
        loop {
            if let Some(page) = self.hosts[model].take_page() {
                return Some(page);
            }
            let mut trimmed = false;
            for other in (0..self.hosts.len()).filter(|&other| other != model) {
                trimmed |= self.hosts[other].trim();
            }
            if trimmed {
                continue;
            }
            let holder = (0..self.hosts.len())
                .filter_map(|m| self.hosts[m].youngest_holder().map(|t| (t, m)))
                .max()
                .filter(|(youngest, _)| *youngest > ticket);
            let (youngest, victim) = holder?;
            self.hosts[victim].preempt(youngest);
        }
    }

    /// Samples for every sequence whose tokens are all computed; those that end come back with their last event.
    fn deliver(
        &mut self,
        model: usize,
        step: &[Need<Ticket>],
        logits: &mut Logits,
    ) -> Vec<(Sequence, Event)> {
        let now = self.clock.now();
        let host = &mut self.hosts[model];
        let mut ended = Vec::new();
        let mut row = 0;
        for need in step {
            let Some(sequence) = host.running.get_mut(&need.key) else {
                continue;
            };
            let complete = sequence.remaining() == need.tokens;
            sequence.advance(need.tokens);
            if !complete {
                continue;
            }
            let end = sequence.accept(logits.row_mut(row), &host.tokenizer, &host.end_tokens, now);
            row += 1;
            if let Some(event) = end
                && let Some(sequence) = host.running.remove(&need.key)
            {
                ended.push((sequence, event));
            }
        }
        ended
    }

    fn fail(&mut self, model: usize, step: &[Need<Ticket>], reason: &str) -> Vec<(Sequence, Event)> {
        let host = &mut self.hosts[model];
        tracing::error!(
            model = host.name,
            reason,
            "a step failed; its requests are failed with it"
        );
        let error = EngineError::Step {
            model: host.name.clone(),
            reason: reason.to_owned(),
        };
        let failed = step.iter().filter_map(|need| host.running.remove(&need.key));
        failed
            .map(|sequence| (sequence, Event::Failed(error.clone())))
            .collect()
    }
}
