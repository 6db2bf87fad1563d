//! The lane: the one thread that touches a device. It takes jobs in, runs one step of one model at a time and sends
//! text out; nobody waits for it and it waits for nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::StepSink;
use super::board::Board;
use super::encode::{Errand, Study};
use super::host::{Host, Ticket};
use super::pages::{KvBudget, Page};
use super::plan::Need;
use super::request::{EngineError, Event};
use super::sequence::{Arrival, Sequence};
use super::turns::Turns;
use crate::energy::{StepRecord, StepRow};
use crate::model::{Batch, Encoder, Logits};
use crate::units::{Clock, DeviceId};

pub enum Command {
    Submit(Box<Arrival>),
    Encode(Errand),
    Stop,
}

pub struct Lane {
    device: DeviceId,
    hosts: Vec<Host>,
    study: Study,
    turns: Turns,
    /// Bytes of keys and values that the hosts share.
    budget: KvBudget,
    /// Tokens of a step, decode rows and prefill chunks together.
    step_tokens: usize,
    next_ticket: u64,
    board: Arc<Board>,
    sink: Arc<dyn StepSink>,
    clock: Clock,
    /// Seconds of work since jobs last ended.
    work: f64,
}

impl Lane {
    pub fn new(
        device: DeviceId,
        hosts: Vec<Host>,
        budget: KvBudget,
        step_tokens: usize,
        board: Arc<Board>,
        sink: Arc<dyn StepSink>,
        clock: Clock,
    ) -> Self {
        let turns = Turns::new(hosts.len());
        Self {
            device,
            hosts,
            study: Study::default(),
            turns,
            budget,
            step_tokens,
            next_ticket: 0,
            board,
            sink,
            clock,
            work: 0.0,
        }
    }

    /// Lets the lane encode texts, too.
    pub fn with_encoder(mut self, encoder: Encoder) -> Self {
        self.study = Study::of(encoder);
        self
    }

    /// Serves until told to stop or until nobody can send any more; what runs then is failed.
    pub fn run(mut self, commands: &Receiver<Command>) {
        while self.take_commands(commands) {
            self.turn();
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
        let mut idle = !self.hosts.iter().any(Host::has_work) && !self.study.has_work();
        loop {
            let command = if idle {
                idle = false;
                commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                commands.try_recv()
            };
            match command {
                Ok(Command::Submit(arrival)) => self.enter(*arrival),
                Ok(Command::Encode(errand)) => self.study.enter(errand),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Puts a job in the queue of its model.
    pub fn enter(&mut self, arrival: Arrival) {
        let model = arrival.job.model;
        if let Some(host) = self.hosts.iter_mut().find(|h| h.id == model) {
            host.enter(Ticket(self.next_ticket), arrival);
            self.next_ticket += 1;
        }
    }

    /// One step of one model, if there is anything to do; before it the encoder reads one text, since a whole request
    /// waits for that.
    pub fn turn(&mut self) {
        if let Some(host) = self.hosts.first() {
            self.study
                .encode_one(self.device, host.id, self.sink.as_ref(), &self.clock);
        }
        self.drop_abandoned();
        self.admit();
        let busy: Vec<bool> = self.hosts.iter().map(|h| !h.running.is_empty()).collect();
        if let Some(model) = self.turns.next(&busy) {
            self.step(model);
        }
    }

    /// Forgets sequences whose client has gone; their pages come free.
    fn drop_abandoned(&mut self) {
        for host in &mut self.hosts {
            host.running.retain(|_, s| !s.is_abandoned());
            host.waiting.retain(|_, s| !s.is_abandoned());
        }
        self.show();
    }

    fn show(&self) {
        for host in &self.hosts {
            self.board.set_running(host.id.index(), host.running.len());
            self.board.set_pages(host.id.index(), host.page_use());
        }
    }

    /// Lets waiting sequences run, in the order they came, as long as there is a row of their model and memory for
    /// all their tokens and a page more without anybody's giving way. None overtakes one that waits for memory, be
    /// it another model's, or a long prompt might wait forever.
    fn admit(&mut self) {
        let mut promised = None;
        loop {
            let next = self.hosts.iter().enumerate();
            let next = next.filter_map(|(model, host)| Some((host.next_in_queue()?, model)));
            let Some((_, model)) = next.min() else { return };
            let (missing, idle) = self.hosts[model].bytes_to_admit();
            let promised =
                promised.get_or_insert_with(|| self.hosts.iter().map(Host::bytes_promised).sum::<u64>());
            let spare: u64 = self.hosts.iter().map(Host::bytes_to_spare).sum();
            let needed = *promised + missing + idle;
            // Alone on the device it has all the memory there is, which every context fits in.
            let alone = self.hosts.iter().all(|h| h.running.is_empty());
            if needed > self.budget.left() + spare && !alone {
                return;
            }
            *promised += missing;
            self.hosts[model].admit();
        }
    }

    fn step(&mut self, model: usize) {
        let wanted = self.hosts[model].plan(self.step_tokens);
        let step = self.secure_pages(model, &wanted);
        if step.is_empty() {
            // Older sequences of other models hold all the memory: the sequences here wait for it now.
            return;
        }
        let host = &mut self.hosts[model];
        let mut batch = Batch::default();
        let mut rows = Vec::with_capacity(step.len());
        for need in &step {
            let sequence = &host.running[&need.key];
            let (prefill_tokens, decode_tokens) = sequence.split(need.tokens);
            let first = sequence.computed();
            let complete = sequence.remaining() == need.tokens;
            batch.push(
                sequence.pending(need.tokens),
                first,
                sequence.prompt_length(),
                sequence.page_numbers(),
                complete && !sequence.only_reads(),
            );
            if complete && sequence.only_reads() {
                batch.want_hidden();
            }
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
        let running = &host.running;
        let wanted = |need: &&Need<Ticket>| {
            let sequence = &running[&need.key];
            sequence.remaining() == need.tokens && !sequence.only_reads()
        };
        let computed = catch_unwind(AssertUnwindSafe(|| {
            if !decoder.draws() {
                return decoder.forward(&batch);
            }
            let wanted = step.iter().filter(wanted);
            let choices: Vec<_> = wanted.map(|need| running[&need.key].choice()).collect();
            decoder.forward_drawing(&batch, &choices)
        }));
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
        self.work += end.seconds_since(start);
        // Only now: whoever hears that a request has ended may rely on all its steps being recorded and on the
        // board's knowing that its row and pages are free.
        ended
            .iter_mut()
            .for_each(|(sequence, _)| sequence.release_pages());
        self.show();
        if !ended.is_empty() {
            self.board
                .finished(self.device, ended.len(), std::mem::take(&mut self.work));
        }
        for (sequence, event) in ended {
            sequence.close(event);
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

    /// A page for `ticket`: one that nobody holds, else one that only the prefix cache holds, its own model's first,
    /// else from the youngest sequence of the lane, as long as that is younger. The oldest of all therefore always
    /// comes through.
    fn find_page(&mut self, model: usize, ticket: Ticket) -> Option<Page> {
        loop {
            if let Some(page) = self.hosts[model].take_page() {
                return Some(page);
            }
            let short = self.hosts[model]
                .bytes_per_page()
                .saturating_sub(self.budget.left());
            let others = (0..self.hosts.len()).filter(|&other| other != model);
            if others.clone().any(|other| self.hosts[other].trim(short)) || self.hosts[model].evict() {
                continue;
            }
            let oldest = others.filter_map(|m| self.hosts[m].oldest_cached().map(|used| (used, m)));
            if let Some((_, other)) = oldest.min() {
                self.hosts[other].evict();
                continue;
            }
            let holders = (0..self.hosts.len()).filter_map(|m| Some((self.hosts[m].first_to_give_way()?, m)));
            let younger = holders.filter(|((_, holder), _)| *holder > ticket);
            let ((_, victim), holder) = younger.max()?;
            self.hosts[holder].preempt(victim);
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
        let (mut row, mut hidden_row) = (0, 0);
        for need in step {
            let complete = host
                .running
                .get(&need.key)
                .is_some_and(|s| s.remaining() == need.tokens);
            host.advance(need.key, need.tokens);
            if !complete {
                continue;
            }
            let Some(sequence) = host.running.get_mut(&need.key) else {
                continue;
            };
            let end = if sequence.only_reads() {
                hidden_row += 1;
                Some(sequence.read(logits.hidden_row(hidden_row - 1), now))
            } else {
                row += 1;
                sequence.accept(logits, row - 1, &host.tokenizer, &host.end_tokens, now)
            };
            if end.is_none() && host.decoder.restarts_at(sequence.length()) {
                sequence.restart(host.decoder.cache_salt(sequence.length()));
            }
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

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "cuda_tests.rs"]
mod cuda_tests;
