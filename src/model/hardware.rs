//! What a lane computes on, opened on the lane's thread; its models are loaded onto it.

use std::sync::Arc;

use super::ModelError;
use super::checkpoint::Checkpoint;
use super::config::{DecoderConfig, SUPPORTED};
use super::cuda::{self, Arena, CudaDecoder, Device, Half, Limits, MemoryPlan};
use super::load::{self, Compute, LoadedModel, ModelSource, Precision};
use super::one_at_a_time::OneAtATime;
use super::stored::StoredWeights;
use super::weights::Weights;

/// A model that is to be loaded.
#[derive(Clone, Debug)]
pub struct HostedModel {
    pub source: ModelSource,
    pub precision: Precision,
    /// Tokens of its longest sequence; `None` for what it was made for.
    pub max_context: Option<usize>,
}

/// The device of a lane.
pub enum Hardware {
    Cpu,
    Cuda(Gpu),
}

/// A CUDA device with the memory for keys and values that its models share.
pub struct Gpu {
    device: Arc<dyn Device>,
    arena: Arc<Arena>,
    tokens: usize,
    rows: usize,
}

impl Hardware {
    /// Steps have up to this many tokens; the memory to compute in is taken for as many.
    pub fn step_tokens(&self, cpu: usize) -> usize {
        match self {
            Self::Cpu => cpu,
            Self::Cuda(gpu) => gpu.tokens,
        }
    }

    /// Opens what `compute` names for `models`, whose keys and values take `kv_bytes` together. Steps have up to
    /// `tokens` tokens in up to `rows` sequences. On a CUDA device the memory of all is added up first, said, and
    /// compared with what is free.
    ///
    /// # Errors
    /// `Device` when it cannot be used or has too little memory, `Unsupported` for a model that it cannot compute.
    pub fn open(
        compute: Compute,
        models: &[HostedModel],
        kv_bytes: u64,
        tokens: usize,
        rows: usize,
    ) -> Result<Self, ModelError> {
        let Compute::Cuda(ordinal) = compute else {
            return Ok(Self::Cpu);
        };
        // A step holds all rows that decode, and one token more.
        let tokens = tokens.max(rows + 1);
        let needs = models
            .iter()
            .map(|model| cuda_need(model, tokens, rows))
            .collect::<Result<Vec<_>, _>>()?;
        let device = cuda::open(ordinal).map_err(ModelError::Device)?;
        let sum = |of: fn(&MemoryPlan) -> u64| needs.iter().map(of).sum::<u64>();
        let (weights, workspace) = (sum(|need| need.weights), sum(|need| need.workspace));
        let free = device.free_bytes()?;
        let wanted = [weights, workspace, kv_bytes, cuda::RESERVE]
            .into_iter()
            .fold(0, u64::saturating_add);
        tracing::info!(
            device = device.name(),
            weights,
            workspace,
            kv_bytes,
            reserve = cuda::RESERVE,
            free,
            "bytes of device memory"
        );
        if wanted > free {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(ModelError::Device(format!(
                "{} has {} MiB free, and the models take {}: {} for weights, {} for steps, {} for keys and values, {} \
                 for cuBLAS and graphs; lower kv_cache or max_context, or leave a model out",
                device.name(),
                free >> 20,
                mib(wanted),
                mib(weights),
                mib(workspace),
                mib(kv_bytes),
                mib(cuda::RESERVE),
            )));
        }
        Ok(Self::Cuda(Gpu {
            arena: Arc::new(Arena::new(&device, kv_bytes)?),
            device,
            tokens,
            rows,
        }))
    }

    /// Loads a model. Everything about it is checked here; later only computing can fail.
    pub fn load(&self, model: &HostedModel) -> Result<LoadedModel, ModelError> {
        match self {
            Self::Cpu => load::load(&model.source, Compute::Cpu, model.precision),
            Self::Cuda(gpu) => {
                let half = half(model)?;
                let held = |stored: &StoredWeights| cuda_dtype(&stored.commonest, model.precision);
                load::load_with(&model.source, held, |config, weights| {
                    let context = context(&config, model);
                    let limits = Limits {
                        tokens: gpu.tokens,
                        rows: gpu.rows,
                        context,
                    };
                    let decoder = CudaDecoder::load(&gpu.device, &gpu.arena, config, weights, half, limits)?;
                    let (parameters, bytes) = (decoder.parameters(), decoder.weight_bytes());
                    Ok((Box::new(decoder), parameters, bytes))
                })
            }
        }
    }
}

fn context(config: &DecoderConfig, model: &HostedModel) -> usize {
    let most = config.max_positions;
    model.max_context.map_or(most, |context| context.min(most))
}

/// What weights that are stored as `stored` are held in on a CUDA device.
pub fn cuda_dtype(stored: &str, precision: Precision) -> String {
    let half = match precision {
        Precision::F16 => Half::F16,
        Precision::Auto | Precision::Bf16 | Precision::F32 => Half::Bf16,
    };
    match stored {
        "q8_0" | "q4_k" | "q6_k" => stored.to_owned(),
        _ => half.name().to_owned(),
    }
}

/// Which half floats it is held in.
fn half(model: &HostedModel) -> Result<Half, ModelError> {
    match model.precision {
        Precision::Auto | Precision::Bf16 => Ok(Half::Bf16),
        Precision::F16 => Ok(Half::F16),
        Precision::F32 => {
            let place = Checkpoint::open(&model.source)?.place();
            Err(refuse(
                place,
                "f32 is not computed on a CUDA device; set dtype to bf16, f16 or auto".to_owned(),
            ))
        }
    }
}

/// What a model takes of a CUDA device, known from its config and the heads of its files.
///
/// # Errors
/// `Unsupported` when it cannot be computed there.
pub fn cuda_need(model: &HostedModel, tokens: usize, rows: usize) -> Result<MemoryPlan, ModelError> {
    half(model)?;
    let checkpoint = Checkpoint::open(&model.source)?;
    let place = checkpoint.place();
    let json = checkpoint.config()?;
    let architecture = super::config::architecture(&json);
    if OneAtATime::knows(&architecture) {
        let reason = format!("{architecture} is computed on the CPU only; set device = \"cpu\"");
        return Err(refuse(place, reason));
    }
    let config = DecoderConfig::parse(&place, &json)?;
    if let Some(reason) = cuda::refusal(&config) {
        return Err(refuse(place, format!("{reason}; set device = \"cpu\"")));
    }
    let weights: Weights = checkpoint.weights()?;
    let limits = Limits {
        tokens,
        rows,
        context: context(&config, model),
    };
    Ok(MemoryPlan::of(&config, &weights, limits))
}

fn refuse(place: String, reason: String) -> ModelError {
    ModelError::Unsupported {
        place,
        reason,
        supported: SUPPORTED,
    }
}
