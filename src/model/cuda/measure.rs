//! What a GPU and the decoder on it come to, for `messplus gpu-check`: the device's own rates, a decoder's time a step
//! beside the bytes and operations it cannot do without, and whether rows keep their bits in company.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::budget::page_shape;
use super::decoder::CudaDecoder;
use super::device::{Address, Device, DeviceError, Half, Memory, Product};
use super::device::{Arg, Launch as DeviceLaunch};
use super::room::Limits;
use super::upload::upload_now;
use crate::model::batch::Batch;
use crate::model::choice::Choice;
use crate::model::config::{DecoderConfig, FeedConfig, LayerConfig};
use crate::model::decoder::Decoder;
use crate::model::kernel_cases::{self, Argument, Chance, Family, Launch, Size};
use crate::model::random::RandomShape;
use crate::model::weights::Weights;
use crate::model::{ModelError, PAGE_TOKENS};
use crate::units::TokenId;

/// A GPU to measure.
pub struct Bench {
    device: Arc<dyn Device>,
}

/// What the device does at its best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Bytes read and written a second by a copy within the device.
    pub bytes_per_second: f64,
    /// Multiplications and additions a second of a large product of bf16 matrices.
    pub operations_per_second: f64,
}

/// Steps of one kind and what they took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    pub steps: usize,
    pub seconds_per_step: f64,
    /// Of these, the host's work between one step's end and the next one's start on the device.
    pub host_seconds_per_step: f64,
    /// Tokens computed or drawn a second.
    pub tokens_per_second: f64,
    /// Bytes of weights, keys and values that a step must read.
    pub bytes_per_step: f64,
    pub operations_per_step: f64,
}

impl Run {
    /// The share of what the roofline allows that was reached: by whichever bound is nearer.
    pub fn share_of(&self, roofline: &Roofline) -> f64 {
        let by_bytes = self.bytes_per_step / roofline.bytes_per_second;
        let by_operations = self.operations_per_step / roofline.operations_per_second;
        by_bytes.max(by_operations) / self.seconds_per_step
    }
}

impl Bench {
    pub fn open(ordinal: usize) -> Result<Self, ModelError> {
        let device = super::open(ordinal).map_err(ModelError::Device)?;
        Ok(Self { device })
    }

    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// Copies `bytes` within the device for about `lasting`, and multiplies matrices `width` wide as long.
    pub fn roofline(&self, bytes: u64, width: usize, lasting: Duration) -> Result<Roofline, ModelError> {
        let from = Memory::new(&self.device, bytes, "a copy")?;
        let to = Memory::new(&self.device, bytes, "a copy")?;
        let (from_at, to_at) = (from.whole().at, to.whole().at);
        // SAFETY: both have that many bytes, and lie apart.
        let copy = || unsafe { self.device.copy(to_at, from_at, bytes) };
        // SAFETY: the memory is that long. Zeros draw less power than numbers do; these are neither.
        unsafe { self.device.fill(from_at, 0x3C, bytes)? };
        let seconds = self.seconds_of(copy, lasting)?;
        drop((from, to));
        let half = (width * width * Half::BYTES) as u64;
        let matrices = Memory::new(&self.device, 3 * half, "a product")?;
        let at = |place: u64| Address(matrices.whole().at.0 + place * half);
        // SAFETY: as above.
        unsafe { self.device.fill(at(0), 0x3C, 3 * half)? };
        let product = Product {
            half: Half::Bf16,
            rows: width,
            inputs: width,
            outputs: width,
            x: at(0),
            weight: at(1),
            out: at(2),
            out_stride: width,
            wide: false,
        };
        // SAFETY: each of the three has `width` rows and columns.
        let multiply = || unsafe { self.device.multiply(&product) };
        let product_seconds = self.seconds_of(multiply, lasting)?;
        Ok(Roofline {
            bytes_per_second: 2.0 * bytes as f64 / seconds,
            operations_per_second: 2.0 * (width as f64).powi(3) / product_seconds,
        })
    }

    /// Seconds that one piece of work takes when it is repeated.
    fn seconds_of(
        &self,
        work: impl Fn() -> Result<(), DeviceError>,
        lasting: Duration,
    ) -> Result<f64, ModelError> {
        let time = |times: usize| -> Result<f64, DeviceError> {
            let start = Instant::now();
            (0..times).try_for_each(|_| work())?;
            self.device.synchronise()?;
            Ok(start.elapsed().as_secs_f64())
        };
        time(2)?;
        let once = time(3)? / 3.0;
        let times = (lasting.as_secs_f64() / once.max(1e-6)).clamp(3.0, 10_000.0) as usize;
        Ok(time(times)? / times as f64)
    }

    /// Loads random weights of a shape, with pages for `rows` sequences of `context` tokens.
    pub fn decoder(
        &self,
        shape: RandomShape,
        half: Half,
        rows: usize,
        context: usize,
        step_tokens: usize,
    ) -> Result<Subject, ModelError> {
        let config = DecoderConfig::parse(&shape.place(), &shape.config()?)?;
        let weights = Weights::of_random(shape);
        let pages = rows * context.div_ceil(PAGE_TOKENS);
        let room = page_shape(&config).room();
        let arena = Arc::new(Arena::new(&self.device, pages as u64 * room)?);
        let limits = Limits {
            tokens: step_tokens.max(rows + 1),
            rows,
            context,
        };
        let mut decoder = CudaDecoder::load(&self.device, &arena, config.clone(), &weights, half, limits)?;
        (0..pages as u32).for_each(|page| decoder.materialise_page(page));
        Ok(Subject {
            decoder,
            config,
            pages_each: context.div_ceil(PAGE_TOKENS),
            step_tokens: limits.tokens,
        })
    }
}

/// A decoder under measurement. Row `r` has the pages from `r · pages_each` on.
pub struct Subject {
    decoder: CudaDecoder,
    config: DecoderConfig,
    pages_each: usize,
    step_tokens: usize,
}

impl Subject {
    fn pages(&self, row: usize) -> Vec<u32> {
        let first = row * self.pages_each;
        (first as u32..(first + self.pages_each) as u32).collect()
    }

    fn token(&self, row: usize, place: usize) -> TokenId {
        let mixed = (row as u64 * 7919 + place as u64 * 104_729 + 17) % self.config.vocabulary as u64;
        TokenId(mixed as u32)
    }

    /// Parameters of the layers' matrices that every token is multiplied with.
    fn active_parameters(&self) -> f64 {
        let (hidden, heads) = (self.config.hidden, self.config.heads);
        let layer = |layer: &LayerConfig| {
            let feed = match layer.feed {
                FeedConfig::Dense { inner } => 3 * inner,
                FeedConfig::Experts {
                    count, used, inner, ..
                } => count + 3 * inner * used,
            };
            hidden * (heads.fused_width() + heads.query_width() + feed)
        };
        self.config.layers.iter().map(layer).sum::<usize>() as f64
    }

    fn head_parameters(&self) -> f64 {
        (self.config.vocabulary * self.config.hidden) as f64
    }

    /// Numbers that one token's keys and values are.
    fn kv_numbers(&self) -> f64 {
        (2 * self.config.layers.len() * self.config.heads.kv_width()) as f64
    }

    /// Operations of one token's attention over `context` tokens.
    fn attention_operations(&self, context: f64) -> f64 {
        4.0 * context * (self.config.layers.len() * self.config.heads.query_width()) as f64
    }

    /// Computes a prompt of `tokens` in row `row`, in chunks.
    pub fn prefill(&mut self, row: usize, tokens: usize) -> Result<Run, ModelError> {
        let pages = self.pages(row);
        let prompt: Vec<TokenId> = (0..tokens).map(|place| self.token(row, place)).collect();
        let chunk = self.step_tokens;
        let start = Instant::now();
        let mut steps = 0;
        for first in (0..tokens).step_by(chunk) {
            let end = tokens.min(first + chunk);
            let mut batch = Batch::default();
            batch.push(&prompt[first..end], first, tokens, &pages, end == tokens);
            let choices = [Some(greedy(end))];
            self.decoder
                .forward_drawing(&batch, &choices[..usize::from(end == tokens)])?;
            steps += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        let (count, each) = (tokens as f64, steps as f64);
        let linear = 2.0 * (self.active_parameters() * count + self.head_parameters());
        let attention = self.attention_operations(count / 2.0) * count;
        Ok(Run {
            steps,
            seconds_per_step: seconds / each,
            host_seconds_per_step: 0.0,
            tokens_per_second: count / seconds,
            bytes_per_step: 2.0 * self.active_parameters(),
            operations_per_step: (linear + attention) / each,
        })
    }

    /// Decodes `steps` tokens of the first `rows` rows, whose contexts have `context` tokens at the start: as many as were
    /// computed before. The first few steps, in which graphs are captured, are not counted.
    pub fn decode(&mut self, rows: usize, context: usize, steps: usize) -> Result<Run, ModelError> {
        const WARM: usize = 3;
        let pages: Vec<Vec<u32>> = (0..rows).map(|row| self.pages(row)).collect();
        let mut tokens: Vec<TokenId> = (0..rows).map(|row| self.token(row, context)).collect();
        let mut start = Instant::now();
        let mut host = self.decoder.host_time();
        for step in 0..WARM + steps {
            if step == WARM {
                start = Instant::now();
                host = self.decoder.host_time();
            }
            let place = context + step;
            let mut batch = Batch::default();
            for (token, pages) in tokens.iter().zip(&pages) {
                batch.push(&[*token], place, context, pages, true);
            }
            let choices = vec![Some(greedy(place + 1)); rows];
            let drawn = self.decoder.forward_drawing(&batch, &choices)?;
            for (row, token) in tokens.iter_mut().enumerate() {
                *token = drawn
                    .token(row)
                    .ok_or_else(|| ModelError::Compute("a token was not drawn on the device".to_owned()))?;
            }
        }
        let each = steps as f64;
        let seconds = start.elapsed().as_secs_f64() / each;
        let length = context as f64 + WARM as f64 + each / 2.0;
        let weights = self.active_parameters() + self.head_parameters();
        let rows = rows as f64;
        Ok(Run {
            steps,
            seconds_per_step: seconds,
            host_seconds_per_step: (self.decoder.host_time() - host).as_secs_f64() / each,
            tokens_per_second: rows / seconds,
            bytes_per_step: 2.0 * (weights + rows * length * self.kv_numbers()),
            operations_per_step: rows * (2.0 * weights + self.attention_operations(length)),
        })
    }

    /// Whether a row's logits are the same bits alone and among `rows`, by graphs; the sentence says what differed.
    pub fn keeps_its_bits(&mut self, rows: usize, steps: usize) -> Result<Result<(), String>, ModelError> {
        let prompt = 40.min(self.pages_each * PAGE_TOKENS - steps - 1);
        let mut alone = Vec::new();
        for company in [1, rows] {
            for row in 0..company {
                self.prefill(row, prompt)?;
            }
            for step in 0..steps {
                let place = prompt + step;
                let mut batch = Batch::default();
                for row in 0..company {
                    batch.push(&[self.token(row, place)], place, prompt, &self.pages(row), true);
                }
                let logits = self.decoder.forward(&batch)?;
                if company == 1 {
                    alone.push(logits.row(0).to_vec());
                } else if alone[step] != logits.row(0) {
                    let differ = alone[step]
                        .iter()
                        .zip(logits.row(0))
                        .filter(|(a, b)| a != b)
                        .count();
                    return Ok(Err(format!(
                        "in step {step} {differ} of {} logits differ among {rows} rows",
                        alone[step].len()
                    )));
                }
            }
        }
        Ok(Ok(()))
    }
}

fn greedy(position: usize) -> Choice<'static> {
    Choice {
        temperature: 0.0,
        top_p: 1.0,
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        seed: 0,
        position: position as u32,
        history: &[],
        biases: &[],
    }
}

/// How one family of kernels compares with its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelCheck {
    pub family: &'static str,
    pub cases: usize,
    /// Relative to the larger of a value and its row's root mean square.
    pub largest_error: f64,
    /// The first thing that was wrong.
    pub failure: Option<String>,
}

/// Runs up to `cases` random cases of every family of kernels, all within `lasting`.
pub fn check_kernels(
    bench: &Bench,
    families: &[Family],
    cases: usize,
    large: bool,
    lasting: Duration,
) -> Vec<KernelCheck> {
    let ends = Instant::now() + lasting;
    let mut there = OnDevice {
        device: bench.device.clone(),
        memory: Vec::new(),
    };
    let checks = families.iter().enumerate().map(|(place, (family, make))| {
        let mut check = KernelCheck {
            family,
            cases: 0,
            largest_error: 0.0,
            failure: None,
        };
        // What is left is shared by the families still to come.
        let left = ends.saturating_duration_since(Instant::now());
        let until = Instant::now() + left / (families.len() - place) as u32;
        for case in 0..cases {
            // Every other case is small: edges show there.
            let size = if large && case % 2 == 1 {
                Size::Large
            } else {
                Size::Small
            };
            let made = make(&mut Chance::new(case as u64), size);
            match made.check(&mut there) {
                Ok(error) => check.largest_error = check.largest_error.max(error),
                Err(reason) => {
                    check.failure = Some(format!("case {case}: {reason}"));
                    break;
                }
            }
            check.cases += 1;
            there.memory.clear();
            if Instant::now() > until {
                break;
            }
        }
        there.memory.clear();
        check
    });
    checks.collect()
}

/// The device as the cases ask for it.
struct OnDevice {
    device: Arc<dyn Device>,
    memory: Vec<Memory>,
}

impl OnDevice {
    fn put(&mut self, bytes: &[u8]) -> Result<u64, String> {
        let memory =
            Memory::new(&self.device, bytes.len() as u64, "a kernel's case").map_err(|e| e.to_string())?;
        if !bytes.is_empty() {
            upload_now(&self.device, memory.whole(), bytes).map_err(|e| e.to_string())?;
        }
        let at = memory.whole().at.0;
        self.memory.push(memory);
        Ok(at)
    }
}

impl kernel_cases::Bench for OnDevice {
    fn input(&mut self, bytes: &[u8]) -> Result<u64, String> {
        self.put(bytes)
    }

    fn changing(&mut self, bytes: &[u8]) -> Result<u64, String> {
        self.put(bytes)
    }

    fn download(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>, String> {
        let mut found = vec![0; bytes];
        let from = self
            .memory
            .iter()
            .map(Memory::whole)
            .find(|region| region.at.0 == address);
        let from = from.filter(|region| region.bytes >= bytes as u64);
        let from = from.ok_or_else(|| format!("no {bytes} bytes lie at {address:#x}"))?;
        // SAFETY: the region is as long, and the wait below ends the copy.
        unsafe { self.device.download(&mut found, from.at) }.map_err(|e| e.to_string())?;
        self.device.synchronise().map_err(|e| e.to_string())?;
        Ok(found)
    }

    fn launch(&mut self, launch: &Launch, arguments: &[Argument]) -> Result<(), String> {
        let args: Vec<Arg> = arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Pointer(at) => Arg::Pointer(Address(at)),
                Argument::U32(value) => Arg::U32(value),
                Argument::U64(value) => Arg::U64(value),
                Argument::F32(value) => Arg::F32(value),
            })
            .collect();
        let launch = DeviceLaunch {
            kernel: launch.kernel.clone().into(),
            grid: launch.grid,
            block: [launch.block, 1, 1],
            shared: launch.shared,
        };
        // SAFETY: a case passes what its kernel takes, and addresses that `put` gave.
        unsafe { self.device.launch(&launch, &args) }.map_err(|e| e.to_string())?;
        self.device.synchronise().map_err(|e| e.to_string())
    }

    fn clear(&mut self) {
        self.memory.clear();
    }
}
