//! Where each model of a zoo will sit and what it takes there, known before anything is loaded.

use super::devices::{Gpus, compute_of, need, precision};
use crate::cli::{CliError, not_located};
use crate::config::{ConfigError, Features, Model, Source, Zoo, bytes_text};
use crate::hub::{self, HubError, Located, PublishedShape};
use crate::model::{
    CUDA_RESERVE, Compute, Inspection, ModelError, ModelSource, PAGE_TOKENS, Precision, RandomShape,
    cuda_dtype, inspect, inspect_config, inspect_encoder,
};

/// Keys and values on the CPU are f32: half floats are some twenty times slower there.
const CPU_BYTES: u64 = 4;

/// A zoo's memory, model by model and device by device.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order of the zoo file.
    pub models: Vec<Place>,
    /// In the order of the lanes: as the models first name them.
    pub devices: Vec<DeviceNeed>,
    /// Who makes the router's embeddings.
    pub eyes: Eyes,
    /// What `device = "auto"` came to, and why, where a model says it.
    pub auto: Option<String>,
}

/// Who turns texts into vectors for the router.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Eyes {
    /// Nobody: the words must do.
    #[default]
    Words,
    /// The smallest model: its place in the zoo.
    Hidden(usize),
    Encoder(Reader),
}

/// The encoder's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    pub source: ModelSource,
    pub located: String,
    pub parameters: u64,
    pub weight_bytes: u64,
    pub width: usize,
}

/// One model's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Its folder, or that it is built in, or that its shape is known and its files are not here.
    pub located: String,
    /// Whether its files are here; else all figures follow from its published shape.
    pub fetched: bool,
    pub device: String,
    pub compute: Compute,
    pub precision: Precision,
    /// What it computes in.
    pub dtype: String,
    /// What its file holds.
    pub stored_dtype: String,
    pub parameters: u64,
    /// Whether its sequences run side by side.
    pub batched: bool,
    pub weight_bytes: u64,
    /// What its steps compute in, taken when it is loaded; 0 on the CPU, which takes memory as it goes.
    pub workspace_bytes: u64,
    pub kv_bytes_per_token: u64,
    pub max_context: usize,
    pub kv_bytes: u64,
}

impl Place {
    /// How its requests run, for tables.
    pub fn runs(&self) -> &'static str {
        if self.batched { "batched" } else { "one at a time" }
    }

    /// `bf16 → f32` where loading widens.
    pub fn dtype_text(&self) -> String {
        if self.stored_dtype == self.dtype {
            return self.dtype.clone();
        }
        format!("{} → {}", self.stored_dtype, self.dtype)
    }
}

/// One device and what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceNeed {
    pub name: String,
    /// The number of a CUDA device.
    pub cuda_ordinal: Option<usize>,
    pub cuda_uuid: Option<String>,
    pub weight_bytes: u64,
    /// Memory to compute in, cuBLAS and graphs.
    pub workspace_bytes: u64,
    pub kv_bytes: u64,
    /// `None` where it cannot be known.
    pub free_bytes: Option<u64>,
}

impl DeviceNeed {
    pub fn total(&self) -> u64 {
        [self.weight_bytes, self.workspace_bytes, self.kv_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl Plan {
    /// Finds and inspects every model; refuses, by the line of the zoo file, what this version cannot serve.
    pub fn of(zoo: &Zoo) -> Result<Self, CliError> {
        Self::draw(zoo, |model, error| Err(not_located(zoo, model, error)))
    }

    /// The same with the published shape of a well-known model in place of files that have not been fetched.
    pub fn before_fetching(zoo: &Zoo) -> Result<Self, CliError> {
        Self::draw(zoo, |model, error| {
            shape_of(model, &error).ok_or_else(|| not_located(zoo, model, error))
        })
    }

    /// `else_shape` says what is known of a model whose files are not here.
    fn draw(
        zoo: &Zoo,
        else_shape: impl Fn(&Model, HubError) -> Result<&'static PublishedShape, CliError>,
    ) -> Result<Self, CliError> {
        let mut plan = Self {
            models: Vec::new(),
            devices: Vec::new(),
            eyes: Eyes::Words,
            auto: None,
        };
        let mut gpus = Gpus::default();
        for model in &zoo.models {
            let (located, fetched, source, seen) = match hub::locate(&model.source) {
                Ok(located) => {
                    let source = model_source(located.clone());
                    (shown(&located), true, source.clone(), inspect(&source))
                }
                Err(error) => {
                    let shape = else_shape(model, error)?;
                    let located = format!("by published shape; `messplus pull {}` fetches it", model.source);
                    // Random numbers in that shape take what the model will.
                    let source = model_source(Located::Random(shape));
                    (located, false, source, inspect_shape(shape))
                }
            };
            let seen = seen.map_err(|refusal| {
                let problem = format!("cannot be served ({refusal})");
                zoo.refuse_model(
                    model,
                    "source",
                    problem,
                    "name another model, or fetch this one again".into(),
                )
            })?;
            let compute = compute_of(zoo, model, &source, &mut gpus)?;
            let place = match compute {
                Compute::Cpu => place(zoo, model, (located, fetched), seen)?,
                Compute::Cuda(ordinal) => {
                    place_on_cuda(zoo, model, &source, (located, fetched), seen, ordinal)?
                }
            };
            plan.book(&place, &mut gpus);
            plan.models.push(place);
        }
        plan.auto = gpus.auto;
        plan.eyes = plan.eyes(zoo)?;
        if let (Eyes::Encoder(_), Some(first)) = (&plan.eyes, plan.models.first())
            && first.compute != Compute::Cpu
        {
            return Err(zoo
                .refuse_router(
                    "encoder",
                    format!(
                        "computes on the CPU only, beside the first model, which is on {}",
                        first.device
                    ),
                    "write features = \"hidden\" or \"ngrams\", or name a model with device = \"cpu\" first"
                        .into(),
                )
                .into());
        }
        if let (Eyes::Encoder(reader), Some(first)) = (&plan.eyes, plan.devices.first_mut()) {
            // It computes on the first lane.
            first.weight_bytes = first.weight_bytes.saturating_add(reader.weight_bytes);
        }
        Ok(plan)
    }

    fn eyes(&self, zoo: &Zoo) -> Result<Eyes, ConfigError> {
        let source = match &zoo.router.features {
            Features::Ngrams => return Ok(Eyes::Words),
            Features::Hidden => return self.smallest(zoo).map(Eyes::Hidden),
            Features::ModernBert(source) => source,
        };
        let refuse = |problem: String, mend: &str| zoo.refuse_router("encoder", problem, mend.into());
        let located = hub::locate(source).map_err(|error| {
            let mend = "or write features = \"ngrams\"";
            refuse(format!("cannot be found ({error})"), mend)
        })?;
        let shown = shown(&located);
        let source = model_source(located);
        let seen = inspect_encoder(&source).map_err(|refusal| {
            let mend = "name a ModernBERT, or fetch this one again";
            refuse(format!("cannot be used ({refusal})"), mend)
        })?;
        Ok(Eyes::Encoder(Reader {
            source,
            located: shown,
            parameters: seen.parameters,
            weight_bytes: seen.held_bytes,
            width: seen.width,
        }))
    }

    /// The model that reads for the router: the one with the fewest parameters, which must show its hidden states.
    fn smallest(&self, zoo: &Zoo) -> Result<usize, ConfigError> {
        let places = self.models.iter().enumerate();
        let smallest = places.min_by_key(|(_, place)| place.parameters);
        match smallest {
            Some((at, place)) if place.batched => Ok(at),
            Some((at, _)) => Err(zoo.refuse_router(
                "features",
                format!(
                    "is 'hidden', and the smallest model, '{}', does not show its hidden states",
                    zoo.models[at].name
                ),
                "write features = \"ngrams\", or serve a smaller model that runs in batches".into(),
            )),
            None => Ok(0),
        }
    }

    fn book(&mut self, place: &Place, gpus: &mut Gpus) {
        let at = self
            .devices
            .iter()
            .position(|d| d.name == place.device)
            .unwrap_or_else(|| {
                self.devices.push(match place.compute {
                    Compute::Cpu => DeviceNeed {
                        name: place.device.clone(),
                        cuda_ordinal: None,
                        cuda_uuid: None,
                        weight_bytes: 0,
                        workspace_bytes: 0,
                        kv_bytes: 0,
                        free_bytes: free_memory(),
                    },
                    Compute::Cuda(ordinal) => {
                        let facts = gpus.facts(ordinal).ok();
                        DeviceNeed {
                            name: place.device.clone(),
                            cuda_ordinal: Some(ordinal),
                            cuda_uuid: facts.as_ref().and_then(|facts| facts.uuid.clone()),
                            weight_bytes: 0,
                            workspace_bytes: CUDA_RESERVE,
                            kv_bytes: 0,
                            free_bytes: facts.map(|facts| facts.free_bytes),
                        }
                    }
                });
                self.devices.len() - 1
            });
        let device = &mut self.devices[at];
        device.weight_bytes = device.weight_bytes.saturating_add(place.weight_bytes);
        device.workspace_bytes = device.workspace_bytes.saturating_add(place.workspace_bytes);
        device.kv_bytes = device.kv_bytes.saturating_add(place.kv_bytes);
    }

    /// The line that says what `device = "auto"` came to; empty where no model says it.
    pub fn auto_line(&self) -> String {
        self.auto
            .as_ref()
            .map_or_else(String::new, |words| format!("device auto: {words}\n"))
    }

    /// Whether the files of all models are here.
    pub fn is_fetched(&self) -> bool {
        self.models.iter().all(|place| place.fetched)
    }

    /// Refuses the first model that its device has no memory left for.
    pub fn refuse_what_does_not_fit(&self, zoo: &Zoo) -> Result<(), ConfigError> {
        for device in &self.devices {
            let Some(free) = device.free_bytes else { continue };
            let mut left = match device.cuda_ordinal {
                Some(_) => free.saturating_sub(CUDA_RESERVE),
                None => free,
            };
            if let Eyes::Encoder(reader) = &self.eyes
                && self.devices.first() == Some(device)
            {
                left = left.saturating_sub(reader.weight_bytes);
            }
            let here = self
                .models
                .iter()
                .zip(&zoo.models)
                .filter(|(place, _)| place.device == device.name);
            for (place, model) in here {
                let held = place.weight_bytes.saturating_add(place.workspace_bytes);
                let needed = held.saturating_add(place.kv_bytes);
                if needed > left {
                    let problem = format!(
                        "does not fit: it takes {} for weights{} and {} for keys and values, and {} has {} left of {} free",
                        bytes_text(place.weight_bytes),
                        match place.workspace_bytes {
                            0 => String::new(),
                            bytes => format!(", {} to compute in", bytes_text(bytes)),
                        },
                        bytes_text(place.kv_bytes),
                        device.name,
                        bytes_text(left),
                        bytes_text(free),
                    );
                    let mend = "lower kv_cache or max_context, or leave a model out".into();
                    return Err(zoo.refuse_model(model, "source", problem, mend));
                }
                left -= needed;
            }
        }
        Ok(())
    }
}

/// Where the decoders find what was located.
pub fn model_source(located: Located) -> ModelSource {
    match located {
        Located::Folder(path) => ModelSource::Folder(path),
        Located::Gguf(path) => ModelSource::Gguf(path),
        Located::Embedded(files) => ModelSource::Embedded(files),
        Located::Random(shape) => ModelSource::Random(RandomShape {
            name: shape.name,
            config: shape.config,
        }),
    }
}

/// The published shape of a model that is merely not fetched. A GGUF file of it weighs something else.
fn shape_of(model: &Model, error: &HubError) -> Option<&'static PublishedShape> {
    match (&model.source, error) {
        (Source::Hub { repo, file: None, .. }, HubError::NotCached { .. } | HubError::NoCache) => {
            hub::published_shape(repo)
        }
        _ => None,
    }
}

fn inspect_shape(shape: &PublishedShape) -> Result<Inspection, ModelError> {
    let config = serde_json::from_str(shape.config).expect("published shapes are JSON: a test reads them");
    inspect_config(shape.repo, &config)
}

fn shown(located: &Located) -> String {
    match located {
        Located::Folder(path) | Located::Gguf(path) => path.display().to_string(),
        Located::Embedded(_) => "built in".into(),
        Located::Random(shape) => format!("random numbers in the shape of {}", shape.repo),
    }
}

/// The context and the bytes of keys and values of a model.
fn keys_and_values(
    zoo: &Zoo,
    model: &Model,
    seen: &Inspection,
    kv_bytes_per_token: u64,
) -> Result<(usize, u64), CliError> {
    let max_context = model.max_context.unwrap_or(seen.max_positions);
    if max_context > seen.max_positions {
        let problem = format!(
            "is {max_context}, and the model was made for {}",
            seen.max_positions
        );
        let mend = format!("write at most {}, or leave it out", seen.max_positions);
        return Err(zoo.refuse_model(model, "max_context", problem, mend).into());
    }
    let kv_bytes = model.kv_budget(kv_bytes_per_token, max_context);
    let one = kv_bytes_per_token.saturating_mul(max_context as u64);
    if kv_bytes < one {
        let problem = format!(
            "is {}, and one full context of {max_context} tokens takes {}",
            bytes_text(kv_bytes),
            bytes_text(one)
        );
        let mend = "raise it, or lower max_context".into();
        return Err(zoo.refuse_model(model, "kv_cache", problem, mend).into());
    }
    Ok((max_context, kv_bytes))
}

fn place(
    zoo: &Zoo,
    model: &Model,
    (located, fetched): (String, bool),
    seen: Inspection,
) -> Result<Place, CliError> {
    let kv_bytes_per_token = seen.kv_values_per_token.saturating_mul(CPU_BYTES);
    let (max_context, kv_bytes) = keys_and_values(zoo, model, &seen, kv_bytes_per_token)?;
    Ok(Place {
        located,
        fetched,
        device: "cpu".into(),
        compute: Compute::Cpu,
        precision: Precision::F32,
        dtype: seen.held_dtype,
        stored_dtype: seen.stored_dtype,
        parameters: seen.parameters,
        batched: seen.batched,
        weight_bytes: seen.held_bytes,
        workspace_bytes: 0,
        kv_bytes_per_token,
        max_context,
        kv_bytes,
    })
}

fn place_on_cuda(
    zoo: &Zoo,
    model: &Model,
    source: &ModelSource,
    (located, fetched): (String, bool),
    seen: Inspection,
    ordinal: usize,
) -> Result<Place, CliError> {
    let need = need(model, source).map_err(|refusal| {
        let problem = format!("cannot be served ({refusal})");
        zoo.refuse_model(model, "source", problem, "write device = \"cpu\"".into())
    })?;
    let kv_bytes_per_token = need.page.div_ceil(PAGE_TOKENS as u64);
    let (max_context, kv_bytes) = keys_and_values(zoo, model, &seen, kv_bytes_per_token)?;
    let precision = precision(model.dtype);
    Ok(Place {
        located,
        fetched,
        device: format!("cuda:{ordinal}"),
        compute: Compute::Cuda(ordinal),
        precision,
        dtype: cuda_dtype(&seen.stored_dtype, precision),
        stored_dtype: seen.stored_dtype,
        parameters: seen.parameters,
        batched: seen.batched,
        weight_bytes: need.weights,
        workspace_bytes: need.workspace,
        kv_bytes_per_token,
        max_context,
        kv_bytes,
    })
}

/// Main memory that can be had without pushing others out.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
