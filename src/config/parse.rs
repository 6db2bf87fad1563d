//! From the text of a zoo file to a [`Zoo`]: table by table, the first fault refused with its line.

use std::path::Path;

use toml::de::DeTable;

use super::check::FeatureWord;
use super::reader::{Section, Text, Value};
use super::{
    ConfigError, DEFAULT_ALPHA, DEFAULT_SLA, Energy, Features, Labels, Model, Refusal, Router, Server, Sla,
    Source, TlsFiles, Zoo, bytes_text, check, labels, names, parse_bytes,
};
use crate::units::Watts;

/// Lanes address models by 16 bits; nobody serves as many from one machine.
const MOST_MODELS: usize = 1_000;
/// Contexts past this are a slip of the keyboard.
const MOST_CONTEXT: u64 = 16_777_216;
const MOST_QUEUE: u64 = 1_000_000;
/// Rows past this make every step longer than anybody waits for.
const MOST_BATCH: u64 = 4_096;
/// A body is held in memory, and several at once.
const MOST_BODY: u64 = 1 << 30;

pub(super) fn parse(origin: &str, text: &str, folder: &Path) -> Result<Zoo, ConfigError> {
    let text = Text { file: origin, text };
    let document = DeTable::parse(text.text).map_err(|e| text.syntax(&e))?;
    let mut top = Section::new(&text, "", document.get_ref(), 0);
    let server = top.section("server")?;
    let energy = top.section("energy")?;
    let models = top.sections("model")?;
    let slas = top.sections("sla")?;
    let router = top.section("router")?;
    // Before anything is missed: a mistyped `[[modle]]` should be called mistyped, not missing.
    top.finish()?;

    let server = server.map_or(Ok(Server::default()), |s| read_server(s, folder))?;
    let energy = energy.map_or(Ok(Energy::default()), |s| read_energy(s, folder))?;
    let models = read_models(&text, models, folder)?;
    let slas = read_slas(&text, slas, &models)?;
    let router = router.map_or(Ok(Router::default()), |s| read_router(s, &models, folder))?;
    Ok(Zoo {
        origin: origin.into(),
        server,
        energy,
        models,
        slas,
        router,
    })
}

fn read_server(mut section: Section<'_>, folder: &Path) -> Result<Server, ConfigError> {
    let mut server = Server::default();
    let listen = section.get("listen");
    let api_keys_file = section.get("api_keys_file");
    let max_per_key = section.get("max_per_key");
    let certificate = section.get("tls_cert");
    let key = section.get("tls_key");
    let max_queue = section.get("max_queue");
    let max_batch = section.get("max_batch");
    let max_body = section.get("max_body");
    let max_prompt = section.get("max_prompt");
    let prefix_cache = section.get("prefix_cache");
    section.finish()?;
    if let Some(value) = api_keys_file {
        let path = folder.join(value.string()?);
        check::keys(&path).map_err(|r| value.refuse(r))?;
        server.api_keys_file = Some(path);
    }
    if let Some(value) = listen {
        server.listen = check::listen(value.string()?).map_err(|r| value.refuse(r))?;
        check::exposure(server.listen, server.api_keys_file.is_some()).map_err(|r| value.refuse(r))?;
    }
    if let Some(value) = max_per_key {
        if server.api_keys_file.is_none() {
            let mend = "name a file with one key a line as api_keys_file, or leave it out";
            return Err(value.refuse(Refusal::new(
                "bounds the requests of a key, and there are no keys",
                mend,
            )));
        }
        server.max_per_key = Some(value.count(MOST_QUEUE)? as usize);
    }
    server.tls = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: folder.join(certificate.string()?),
            key: folder.join(key.string()?),
        }),
        (Some(one), None) | (None, Some(one)) => {
            let mend = "name both tls_cert and tls_key, or neither";
            return Err(one.refuse(Refusal::new("is one half of a certificate and its key", mend)));
        }
    };
    if let Some(value) = max_queue {
        server.max_queue = value.count(MOST_QUEUE)? as usize;
    }
    if let Some(value) = max_batch {
        server.max_batch = value.count(MOST_BATCH)? as usize;
    }
    if let Some(value) = max_body {
        server.max_body = read_bytes(&value, MOST_BODY)? as usize;
    }
    if let Some(value) = max_prompt {
        server.max_prompt = Some(value.count(MOST_CONTEXT)? as usize);
    }
    if let Some(value) = prefix_cache {
        server.prefix_cache = value.boolean()?;
    }
    Ok(server)
}

/// Bytes as a number or as text, say "512MiB".
fn read_bytes(value: &Value<'_>, most: u64) -> Result<u64, ConfigError> {
    if !value.is_text() {
        return value.count(most);
    }
    let bytes = parse_bytes(value.string()?).map_err(|r| value.refuse(r))?;
    if bytes > most {
        let mend = format!("write at most {}", bytes_text(most));
        return Err(value.refuse(Refusal::new(format!("is {}", bytes_text(bytes)), mend)));
    }
    Ok(bytes)
}

fn read_energy(mut section: Section<'_>, folder: &Path) -> Result<Energy, ConfigError> {
    let mut energy = Energy::default();
    let meter = section.get("meter");
    let idle = section.get("idle");
    let library = section.get("nvml_library");
    let rest = section.get("modelled_idle_watts");
    let busy = section.get("modelled_active_watts");
    let record = section.get("record");
    section.finish()?;
    if let Some(value) = meter {
        energy.meter = check::meter(value.string()?).map_err(|r| value.refuse(r))?;
    }
    if let Some(value) = idle {
        energy.idle = check::idle(value.string()?).map_err(|r| value.refuse(r))?;
    }
    if let Some(value) = library {
        energy.nvml_library = match value.string()? {
            "" => return Err(value.refuse(Refusal::new("is empty", "name a library, say libnvidia-ml.so.1"))),
            // A bare name is the dynamic linker's to find; a path is the file's neighbour.
            name if name.contains('/') => folder.join(name).display().to_string(),
            name => name.into(),
        };
    }
    if let Some(value) = record {
        energy.record = match value.string()? {
            "" => return Err(value.refuse(Refusal::new("is empty", "name a file, say energy.jsonl"))),
            name => Some(folder.join(name)),
        };
    }
    if let Some(value) = &rest {
        energy.modelled_idle_watts = Watts(check::watts(value.number()?).map_err(|r| value.refuse(r))?);
    }
    if let Some(value) = &busy {
        energy.modelled_active_watts = Watts(check::watts(value.number()?).map_err(|r| value.refuse(r))?);
    }
    let (low, high) = (energy.modelled_idle_watts.0, energy.modelled_active_watts.0);
    match busy.or(rest) {
        Some(value) if low > high => Err(value.refuse(Refusal::new(
            format!("leaves {high} W for a busy device and {low} W for an idle one"),
            "make modelled_active_watts at least modelled_idle_watts",
        ))),
        _ => Ok(energy),
    }
}

fn read_models(
    text: &Text<'_>,
    sections: Vec<Section<'_>>,
    folder: &Path,
) -> Result<Vec<Model>, ConfigError> {
    if sections.is_empty() {
        let refusal = Refusal::new(
            "is missing, so there is nothing to serve",
            "add a [[model]] with name and source",
        );
        return Err(text.refuse(0, "model", refusal));
    }
    let mut models: Vec<Model> = Vec::with_capacity(sections.len());
    for mut section in sections {
        let name = section.get("name");
        let source = section.get("source");
        let device = section.get("device");
        let dtype = section.get("dtype");
        let max_context = section.get("max_context");
        let kv_cache = section.get("kv_cache");
        section.finish()?;
        let name = section.need(name, "name", "give the model a name")?;
        let source = section.need(
            source,
            "source",
            "say where it is: hf:ORG/NAME, path:DIR or demo:NAME",
        )?;
        let model = Model {
            name: name.string()?.into(),
            source: source.parse::<Source>()?.resolved(folder),
            device: device.map_or(Ok(Default::default()), |v| v.parse())?,
            dtype: dtype.map_or(Ok(Default::default()), |v| v.parse())?,
            max_context: max_context
                .map(|v| v.count(MOST_CONTEXT))
                .transpose()?
                .map(|n| n as usize),
            kv_cache: kv_cache.map(|v| read_bytes(&v, u64::MAX >> 1)).transpose()?,
            line: text.line(section.offset),
        };
        names::model_name(&model.name).map_err(|r| name.refuse(r))?;
        if let Some(other) = models.iter().find(|m| m.name == model.name) {
            let problem = format!("is '{}', as that of the model in line {}", other.name, other.line);
            return Err(name.refuse(Refusal::new(problem, "give each model a name of its own")));
        }
        if models.len() == MOST_MODELS {
            let problem = format!("is one more than the {MOST_MODELS} models a zoo may have");
            return Err(name.refuse(Refusal::new(problem, "serve fewer")));
        }
        models.push(model);
    }
    Ok(models)
}

fn read_slas(text: &Text<'_>, sections: Vec<Section<'_>>, models: &[Model]) -> Result<Vec<Sla>, ConfigError> {
    let models: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let Some(first) = sections.first().map(|s| s.offset) else {
        return Ok(vec![Sla {
            name: DEFAULT_SLA.into(),
            alpha: DEFAULT_ALPHA,
            labels: Labels::default(),
        }]);
    };
    let mut slas: Vec<Sla> = Vec::with_capacity(sections.len());
    for mut section in sections {
        let name = section.get("name");
        let alpha = section.get("alpha");
        let labels = labels::read(&mut section, &models)?;
        section.finish()?;
        let name = section.need(
            name,
            "name",
            "name it; `model: \"auto\"` is answered under \"default\"",
        )?;
        let alpha = section.need(
            alpha,
            "alpha",
            "promise a share above 0 and below 1, say alpha = 0.8",
        )?;
        let sla = Sla {
            name: name.string()?.into(),
            alpha: check::alpha(alpha.number()?).map_err(|r| alpha.refuse(r))?,
            labels,
        };
        names::plain_name(&sla.name).map_err(|r| name.refuse(r))?;
        if slas.iter().any(|s| s.name == sla.name) {
            let problem = format!("is '{}', as that of another [[sla]]", sla.name);
            return Err(name.refuse(Refusal::new(problem, "give each promise a name of its own")));
        }
        slas.push(sla);
    }
    if slas.iter().all(|s| s.name != DEFAULT_SLA) {
        let refusal = Refusal::new(
            "is never 'default', and that is the promise `model: \"auto\"` is answered under",
            "name one [[sla]] \"default\"",
        );
        return Err(text.refuse(first, "sla.name", refusal));
    }
    Ok(slas)
}

fn read_router(mut section: Section<'_>, models: &[Model], folder: &Path) -> Result<Router, ConfigError> {
    let policy = section.get("policy");
    let features = section.get("features");
    let encoder = section.get("encoder");
    section.finish()?;
    let mut router = Router::default();
    if let Some(value) = policy {
        let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
        router.policy = check::policy(value.string()?, &names).map_err(|r| value.refuse(r))?;
    }
    let mut line = 0;
    let word = match &features {
        Some(value) => {
            line = value.line();
            check::features(value.string()?).map_err(|r| value.refuse(r))?
        }
        None => FeatureWord::Ngrams,
    };
    router.features = if word == FeatureWord::ModernBert {
        let mend = "say which, say encoder = \"hf:answerdotai/ModernBERT-base\"";
        let value = section.need(encoder, "encoder", mend)?;
        router.features_line = value.line();
        let source = value.parse::<Source>()?.resolved(folder);
        if !matches!(source, Source::Folder(_) | Source::Hub { file: None, .. }) {
            return Err(value.refuse(Refusal::new(
                format!("is '{source}', which is no encoder"),
                "name a folder or a repository, say \"hf:answerdotai/ModernBERT-base\"",
            )));
        }
        Features::ModernBert(source)
    } else if let Some(value) = encoder {
        return Err(value.refuse(Refusal::new(
            "is named, and nothing uses it",
            "write features = \"modernbert\", or leave encoder out",
        )));
    } else if word == FeatureWord::Hidden {
        router.features_line = line;
        Features::Hidden
    } else {
        Features::Ngrams
    };
    Ok(router)
}
