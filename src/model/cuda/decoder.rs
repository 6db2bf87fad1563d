//! The packed decoder on a CUDA device.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arena::{Arena, Tenant};
use super::attention::{Attention, SPLIT_TOKENS};
use super::blueprint::{Blueprint, Form, Stock};
use super::budget::{page_shape, staging_words};
use super::device::{Device, DeviceError, Graph, Half, Memory, Pinned};
use super::kernels::{Kernels, Kind, MOST_SAMPLED};
use super::network::{Network, Step};
use super::pack::{Packed, widest};
use super::room::{Limits, Room};
use super::ropes::RopeTable;
use super::staging::{Layout, Shape, Staging, table_width};
use super::upload::Upload;
use crate::model::batch::{Batch, Logits};
use crate::model::choice::Choice;
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::weights::Weights;
use crate::model::{ModelError, PAGE_TOKENS};
use crate::units::TokenId;

/// Rows that graphs are captured for; a step of fewer is padded.
pub const BUCKETS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Pinned memory that logits come back through.
const RETURN_BYTES: usize = 8 << 20;

pub struct CudaDecoder {
    network: Network,
    arena: Arc<Arena>,
    tenant: Tenant,
    staging: Staging,
    turns: Vec<Option<usize>>,
    limits: Limits,
    graphs: HashMap<Shape, Captured>,
    /// Time in steps but for waiting, over all of them, and time of waiting in the present one.
    host_time: Duration,
    waited: Duration,
    /// Whether steps that come again are captured.
    pub(super) captures: bool,
    /// What comes back: tokens, then logits or hidden states.
    returned: Pinned,
    /// The first failure of giving a page memory: pages cannot fail where they are handed out.
    fault: Option<DeviceError>,
    /// Owns what [`Network::weights`] names; dropped after all that uses it.
    _weights: Memory,
}

enum Captured {
    /// The shape was met once and computed piece by piece, which loads its kernels.
    Met,
    Graph(Graph),
}

/// Tells of tensors that no kernel multiplies as they are stored.
fn say_what_is_widened(blueprint: &Blueprint, weights: &Weights, device: &str, half: Half) {
    let mut kinds: Vec<String> = blueprint
        .fills
        .iter()
        .filter(|fill| fill.form == Form::Matrix(Kind::Half))
        .filter_map(|fill| weights.block_kind(&fill.name))
        .filter(|kind| kind.block_size() > 1)
        .map(|kind| format!("{kind:?}"))
        .collect();
    let tensors = kinds.len();
    kinds.sort();
    kinds.dedup();
    if tensors > 0 {
        let half = half.name();
        tracing::warn!(
            device,
            "{tensors} tensors stored as {} are held as {half}",
            kinds.join(", ")
        );
    }
}

fn turns(ropes: &[RopeTable]) -> Vec<Option<usize>> {
    let turns: Vec<_> = ropes.iter().map(RopeTable::comes_with_steps).collect();
    // A place for rows of tables is there also where nothing turns.
    if turns.is_empty() { vec![None] } else { turns }
}

impl CudaDecoder {
    /// Takes the memory, then brings the weights.
    pub fn load(
        device: &Arc<dyn Device>,
        arena: &Arc<Arena>,
        config: DecoderConfig,
        weights: &Weights,
        half: Half,
        limits: Limits,
    ) -> Result<Self, ModelError> {
        let shared = Attention::plain(config.heads).shared();
        if shared > device.most_shared() as usize {
            return Err(ModelError::Device(format!(
                "{} has {} KiB of shared memory for a block, and attention with heads {} wide takes {}; set device = \
                 \"cpu\"",
                device.name(),
                device.most_shared() >> 10,
                config.heads.dim,
                shared >> 10
            )));
        }
        let blueprint = Blueprint::of(&config, weights);
        say_what_is_widened(&blueprint, weights, device.name(), half);
        let kernels = Kernels::new(device.clone(), half);
        let memory = Memory::new(device, blueprint.bytes, "weights")?;
        let room = Room::new(device, &config, &blueprint, limits)?;
        let ropes = config
            .ropes
            .iter()
            .map(|rope| RopeTable::new(device, rope, limits.context))
            .collect::<Result<Vec<_>, _>>()?;
        let page = page_shape(&config);
        let returned = RETURN_BYTES.max(4 * config.vocabulary.max(limits.rows));
        let decoder = Self {
            arena: arena.clone(),
            tenant: arena.enter(page)?,
            staging: Staging::new(device, staging_words(&config, limits))?,
            turns: turns(&ropes),
            limits,
            graphs: HashMap::new(),
            captures: true,
            host_time: Duration::ZERO,
            waited: Duration::ZERO,
            returned: Pinned::new(device, returned)?,
            fault: None,
            network: Network {
                weights: memory.whole(),
                arena: arena.region(),
                page,
                ropes,
                room,
                kernels,
                blueprint,
                config,
            },
            _weights: memory,
        };
        decoder.bring(weights)?;
        Ok(decoder)
    }

    fn bring(&self, weights: &Weights) -> Result<(), ModelError> {
        let network = &self.network;
        let fills = &network.blueprint.fills;
        let largest = fills.iter().map(|fill| fill.spot.bytes).max().unwrap_or(0);
        let mut upload = Upload::new(network.kernels.device(), largest)?;
        let (mut there, mut tenths) = (0, 0);
        for fill in fills {
            let to = network.weights.part(fill.spot.offset, fill.spot.bytes);
            upload.fill(fill, weights, &network.kernels, to)?;
            there += fill.spot.bytes;
            let now = 10 * there / network.blueprint.bytes.max(1);
            if now > tenths {
                tenths = now;
                let mib = there >> 20;
                tracing::info!(
                    device = network.kernels.device().name(),
                    "weights: {}0 %, {mib} MiB",
                    now
                );
            }
        }
        Ok(upload.finish()?)
    }

    pub fn parameters(&self) -> u64 {
        self.network.config.parameters()
    }

    pub fn weight_bytes(&self) -> u64 {
        self.network.blueprint.bytes
    }

    /// Graphs captured so far.
    #[cfg(test)]
    pub fn graphs_captured(&self) -> usize {
        let captured = |graph: &&Captured| matches!(graph, Captured::Graph(_));
        self.graphs.values().filter(captured).count()
    }

    /// Waits until the device has done all its work.
    fn wait(&mut self) -> Result<(), DeviceError> {
        let start = Instant::now();
        let done = self.network.kernels.device().synchronise();
        self.waited += start.elapsed();
        done
    }

    /// The host's own time in all steps so far: all but waiting for the device.
    #[cfg(any(test, feature = "cuda"))]
    pub fn host_time(&self) -> Duration {
        self.host_time
    }

    fn compute(&mut self, batch: &Batch, choices: &[Option<Choice<'_>>]) -> Result<Logits, ModelError> {
        let start = Instant::now();
        self.waited = Duration::ZERO;
        let logits = self.step(batch, choices);
        self.host_time += start.elapsed().saturating_sub(self.waited);
        logits
    }

    fn step(&mut self, batch: &Batch, choices: &[Option<Choice<'_>>]) -> Result<Logits, ModelError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        let packed = Packed::of(batch);
        let (shape, is_decode) = self.shape(batch, &packed)?;
        let layout = Layout::of(&shape, &self.turns);
        let drawn = self.write(batch, &packed, &shape, &layout, choices)?;
        let step = Step {
            shape: &shape,
            layout: &layout,
            inputs: self.staging.region(),
        };
        let device = self.network.kernels.device().clone();
        match self.graphs.get(&shape) {
            // SAFETY: the graph names memory of this decoder and the arena, both of which are there.
            Some(Captured::Graph(graph)) => unsafe { device.replay(graph)? },
            Some(Captured::Met) => {
                device.begin_capture()?;
                let noted = self.network.run(step);
                let graph = device.end_capture();
                noted?;
                let graph = graph?;
                // SAFETY: as above.
                unsafe { device.replay(&graph)? };
                self.graphs.insert(shape, Captured::Graph(graph));
            }
            None => {
                self.network.run(step)?;
                if is_decode && self.captures {
                    self.graphs.insert(shape, Captured::Met);
                }
            }
        }
        self.bring_back(batch, &drawn)
    }

    /// The step's shape, padded to a graph's where only single tokens are computed.
    fn shape(&self, batch: &Batch, packed: &Packed) -> Result<(Shape, bool), ModelError> {
        let refuse = |what: &str, has: usize, most: usize| {
            Err(ModelError::Compute(format!(
                "a step has {has} {what}, and this model was given memory for {most}"
            )))
        };
        let heads = batch.logit_rows.len();
        let rows = self.limits.rows;
        let longest = batch.positions.iter().max().map_or(0, |last| *last as usize + 1);
        match () {
            () if packed.order.len() > self.limits.tokens => {
                return refuse("tokens", packed.order.len(), self.limits.tokens);
            }
            () if batch.sequences() > rows => return refuse("sequences", batch.sequences(), rows),
            () if heads.max(batch.hidden_rows.len()) > rows => return refuse("wanted rows", heads, rows),
            () if longest > self.limits.context => {
                return refuse("tokens in a sequence", longest, self.limits.context);
            }
            () => {}
        }
        let exact = Shape {
            tokens: packed.order.len(),
            singles: packed.singles,
            multis: packed.multis(),
            longest: packed.longest,
            width: table_width(batch.table_width),
            context: packed.context,
            heads,
            states: batch.hidden_rows.len(),
        };
        let bucket = BUCKETS.into_iter().find(|bucket| *bucket >= exact.tokens);
        let is_decode = exact.multis == 0 && exact.states == 0 && heads > 0;
        let padded = bucket.filter(|bucket| is_decode && *bucket <= self.limits.rows.min(self.limits.tokens));
        Ok(match padded {
            Some(bucket) => {
                let shape = Shape {
                    tokens: bucket,
                    singles: bucket,
                    context: (exact.width * PAGE_TOKENS).next_multiple_of(SPLIT_TOKENS),
                    heads: bucket,
                    ..exact
                };
                (shape, true)
            }
            None => (exact, false),
        })
    }

    /// Writes the step's inputs and sends them; for each wanted row, whether the device draws its token.
    fn write(
        &mut self,
        batch: &Batch,
        packed: &Packed,
        shape: &Shape,
        layout: &Layout,
        choices: &[Option<Choice<'_>>],
    ) -> Result<Vec<bool>, ModelError> {
        let draws = self.network.config.vocabulary <= MOST_SAMPLED;
        let choices = if draws { choices } else { &[] };
        let words = self.staging.words_mut();
        let ropes = &self.network.ropes;
        let written = self
            .arena
            .with_places(self.tenant, |places| {
                packed.write(words, batch, shape, layout, ropes, places)
            })
            .ok_or_else(|| {
                ModelError::Compute("a page of keys and values is used before it has memory".to_owned())
            })
            .map(|()| packed.write_choices(words, batch, shape, layout, choices));
        let (drawn, end) = written?;
        self.staging.send(self.network.kernels.device().as_ref(), end)?;
        Ok(drawn)
    }

    /// Waits for the step's end: tokens, and what rows' logits and hidden states were asked for.
    fn bring_back(&mut self, batch: &Batch, drawn: &[bool]) -> Result<Logits, ModelError> {
        let vocabulary = self.network.config.vocabulary;
        let hidden = self.network.config.hidden;
        let heads = batch.logit_rows.len();
        let room = &self.network.room;
        let (tokens, logits, states) = (room.tokens, room.logits, room.states);
        let mut ids = vec![None; heads];
        let mut values = Vec::new();
        if drawn.contains(&true) {
            let bytes = self.fetch(tokens, 0, 4 * heads)?;
            for ((id, token), drawn) in ids.iter_mut().zip(bytes.as_chunks::<4>().0).zip(drawn) {
                *id = drawn.then(|| TokenId(u32::from_le_bytes(*token)));
            }
        }
        for row in (0..heads).filter(|row| !drawn[*row]) {
            let bytes = self.fetch(logits, row * vocabulary * 4, vocabulary * 4)?;
            values.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|word| f32::from_le_bytes(*word)),
            );
        }
        let half = self.network.kernels.half();
        let mut numbers = Vec::new();
        for row in 0..batch.hidden_rows.len() {
            let bytes = self.fetch(states, row * hidden * 2, hidden * 2)?;
            numbers.extend(bytes.as_chunks::<2>().0.iter().map(|word| widest(half, *word)));
        }
        if heads == 0 && batch.hidden_rows.is_empty() {
            // The inputs' memory may be written again only after the device has read them.
            self.wait()?;
        }
        let logits = Logits::drawn(values, vocabulary, ids);
        Ok(if numbers.is_empty() {
            logits
        } else {
            logits.with_hidden(numbers, hidden)
        })
    }

    fn fetch(
        &mut self,
        from: super::device::Region,
        offset: usize,
        bytes: usize,
    ) -> Result<&[u8], ModelError> {
        let from = from.part(offset as u64, bytes as u64);
        let device = self.network.kernels.device().clone();
        let to = &mut self.returned.bytes_mut()[..bytes];
        // SAFETY: the region is as long, and the buffer is not touched until the device has finished.
        unsafe { device.download(to, from.at)? };
        self.wait()?;
        Ok(&self.returned.bytes()[..bytes])
    }
}

impl Decoder for CudaDecoder {
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError> {
        self.compute(batch, &[])
    }

    fn draws(&self) -> bool {
        self.network.config.vocabulary <= MOST_SAMPLED
    }

    fn forward_drawing(
        &mut self,
        batch: &Batch,
        choices: &[Option<Choice<'_>>],
    ) -> Result<Logits, ModelError> {
        self.compute(batch, choices)
    }

    fn hidden_width(&self) -> Option<usize> {
        Some(self.network.config.hidden)
    }

    fn materialise_page(&mut self, page: u32) {
        if let Err(error) = self.arena.place(self.tenant, page) {
            self.fault.get_or_insert(error);
        }
    }

    fn release_page(&mut self, page: u32) {
        self.arena.release(self.tenant, page);
    }

    fn bytes_per_page(&self) -> u64 {
        self.network.page.room()
    }

    fn cache_salt(&self, prompt_tokens: usize) -> u64 {
        self.network.config.cache_salt(prompt_tokens)
    }

    fn restarts_at(&self, tokens: usize) -> bool {
        self.network.config.restarts_at(tokens)
    }
}

impl Stock for Weights {
    fn kind(&self, name: &str, columns: usize) -> Kind {
        self.block_kind(name)
            .and_then(kind_of)
            .filter(|kind| columns.is_multiple_of(kind.block()))
            .unwrap_or(Kind::Half)
    }

    fn contains(&self, name: &str) -> bool {
        Weights::contains(self, name)
    }
}

/// The kinds that are multiplied as they are stored.
pub fn kind_of(kind: candle_core::quantized::GgmlDType) -> Option<Kind> {
    use candle_core::quantized::GgmlDType;
    match kind {
        GgmlDType::Q8_0 => Some(Kind::Q8_0),
        GgmlDType::Q4K => Some(Kind::Q4K),
        GgmlDType::Q6K => Some(Kind::Q6K),
        _ => None,
    }
}
