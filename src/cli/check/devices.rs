//! Which device each model of a zoo computes on: what its line says, or the first GPU that this build and machine can use.

use crate::cli::CliError;
use crate::config::{Device, Dtype, Model, Zoo};
use crate::engine::EngineSettings;
use crate::model::{
    Compute, CudaFacts, HostedModel, MemoryPlan, ModelError, ModelSource, Precision, cuda_device, cuda_need,
};

/// What was found of CUDA devices; each is asked once.
#[derive(Default)]
pub(super) struct Gpus {
    asked: Vec<(usize, Result<CudaFacts, String>)>,
    pub(super) auto: Option<String>,
}

impl Gpus {
    pub(super) fn facts(&mut self, ordinal: usize) -> Result<CudaFacts, String> {
        if let Some((_, facts)) = self.asked.iter().find(|(asked, _)| *asked == ordinal) {
            return facts.clone();
        }
        let facts = cuda_device(ordinal);
        self.asked.push((ordinal, facts.clone()));
        facts
    }
}

pub(super) fn precision(dtype: Dtype) -> Precision {
    match dtype {
        Dtype::Auto => Precision::Auto,
        Dtype::F32 => Precision::F32,
        Dtype::F16 => Precision::F16,
        Dtype::Bf16 => Precision::Bf16,
    }
}

/// Where a model computes. What the lanes will refuse is refused here too, with the line.
pub(super) fn compute_of(
    zoo: &Zoo,
    model: &Model,
    source: &ModelSource,
    gpus: &mut Gpus,
) -> Result<Compute, CliError> {
    let refuse = |key: &str, problem: String, mend: &str| {
        Err(zoo.refuse_model(model, key, problem, mend.into()).into())
    };
    let on_cpu = || match model.dtype {
        Dtype::F16 | Dtype::Bf16 => {
            let problem = format!(
                "is {}, which a CPU computes some twenty times slower than f32",
                model.dtype
            );
            refuse("dtype", problem, "write f32 or auto")
        }
        Dtype::Auto | Dtype::F32 => Ok(Compute::Cpu),
    };
    match model.device {
        Device::Cpu => on_cpu(),
        Device::Cuda(ordinal) => {
            if model.dtype == Dtype::F32 {
                let problem = format!("is f32, and {} computes in half floats", model.device);
                return refuse("dtype", problem, "write bf16, f16 or auto");
            }
            if let Err(reason) = gpus.facts(ordinal) {
                let problem = format!("is {}, and {reason}", model.device);
                return refuse("device", problem, "write cpu or auto");
            }
            if let Err(refusal) = need(model, source) {
                let problem = format!("is {}, where it cannot be served ({refusal})", model.device);
                return refuse("device", problem, "write cpu or auto");
            }
            Ok(Compute::Cuda(ordinal))
        }
        Device::Auto => {
            let usable = match model.dtype {
                Dtype::F32 => Err("f32 is computed on the CPU".to_owned()),
                _ => gpus
                    .facts(0)
                    .and_then(|facts| need(model, source).map(|_| facts.name).map_err(|e| e.to_string())),
            };
            let (compute, words) = match usable {
                Ok(name) => (Compute::Cuda(0), format!("cuda:0, {name}")),
                Err(reason) => (on_cpu()?, format!("cpu, because {reason}")),
            };
            gpus.auto = Some(match gpus.auto.take() {
                Some(said) if said.split("; ").any(|part| part == words) => said,
                Some(said) => format!("{said}; {words}"),
                None => words,
            });
            Ok(compute)
        }
    }
}

/// What a model takes of a CUDA device.
pub(super) fn need(model: &Model, source: &ModelSource) -> Result<MemoryPlan, ModelError> {
    let hosted = HostedModel {
        source: source.clone(),
        precision: precision(model.dtype),
        max_context: model.max_context,
    };
    let settings = EngineSettings::default();
    cuda_need(&hosted, settings.cuda_step_tokens, settings.max_rows)
}
