//! From a valid ask to jobs: which models may answer, the prompt in each one's tokens, and the jobs themselves.

use crate::energy::Account;
use crate::engine::{Engine, EngineError, Job, ModelFacts, Tool};
use crate::router::SlaId;
use crate::server::wire::{Ask, Prompt, Target};
use crate::units::{ModelId, RequestId, TokenId};

use super::DeskError;

/// Who is to answer, with names turned into places.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Aim {
    Routed { sla: SlaId, name: String },
    Named(ModelId),
}

/// Everything about a request that is known before a model is chosen.
pub(super) struct Plan {
    pub request: RequestId,
    pub ask: Ask,
    pub aim: Aim,
    /// What the router reads.
    pub words: String,
    /// Per model of the zoo.
    candidates: Vec<Candidate>,
}

/// The request as one model would get it.
enum Candidate {
    /// Not asked for.
    Outside,
    Refused(EngineError),
    Fits(Vec<Vec<TokenId>>),
}

impl Plan {
    /// Tokenises the prompts for every model that may answer. Costly for a long prompt.
    pub fn draw(engine: &Engine, slas: &[String], request: RequestId, ask: Ask) -> Result<Self, DeskError> {
        let models = engine.models();
        let aim = aim(models, slas, &ask.target)?;
        if matches!(aim, Aim::Routed { .. }) {
            refuse_tokens(&ask)?;
        }
        let mut plan = Self {
            request,
            words: words(&ask),
            ask,
            aim,
            candidates: Vec::new(),
        };
        plan.candidates = models.iter().map(|facts| plan.candidate(engine, facts)).collect();
        plan.refuse_hopeless(engine)?;
        Ok(plan)
    }

    fn candidate(&self, engine: &Engine, facts: &ModelFacts) -> Candidate {
        if matches!(self.aim, Aim::Named(model) if model != facts.id) {
            return Candidate::Outside;
        }
        let account = Account::Request(self.request);
        let served = tokens(engine, facts, &self.ask).and_then(|prompts| {
            prompts
                .iter()
                .try_for_each(|prompt| engine.check(&self.job(engine, facts, account, prompt, 0)))?;
            Ok(prompts)
        });
        match served {
            Ok(prompts) => Candidate::Fits(prompts),
            Err(error) => Candidate::Refused(error),
        }
    }

    /// Refuses what no model can answer, with the reason of the one that comes nearest.
    fn refuse_hopeless(&self, engine: &Engine) -> Result<(), DeskError> {
        let models = engine.models();
        if self
            .candidates
            .iter()
            .any(|candidate| matches!(candidate, Candidate::Fits(_)))
        {
            return self.check_bias(models);
        }
        let context = |at: usize| models.get(at).map_or(0, |facts| facts.max_context);
        let refusals = self
            .candidates
            .iter()
            .enumerate()
            .filter_map(|(at, candidate)| match candidate {
                Candidate::Refused(error) => Some((at, error)),
                _ => None,
            });
        match refusals.max_by_key(|(at, _)| context(*at)) {
            Some((at, error @ EngineError::Constraint { reason, .. })) => Err(self
                .wrong_tool(engine, &models[at], reason)
                .unwrap_or_else(|| error.clone().into())),
            Some((_, error)) => Err(error.clone().into()),
            None => Err(DeskError::Lost),
        }
    }

    /// The function whose parameters are why a model cannot be held to the request, if it is one function's fault.
    fn wrong_tool(&self, engine: &Engine, facts: &ModelFacts, reason: &str) -> Option<DeskError> {
        let offered = self.ask.tools.as_ref()?;
        let wrong = |tool: &Tool| {
            let alone = offered.alone(tool, engine.call_form(facts.id));
            engine.check_constraint(facts.id, &alone).is_err()
        };
        let at = offered.tools.iter().position(wrong)?;
        Some(DeskError::WrongTool {
            at,
            name: offered.tools[at].name.clone(),
            model: facts.name.clone(),
            reason: reason.to_owned(),
        })
    }

    fn check_bias(&self, models: &[ModelFacts]) -> Result<(), DeskError> {
        let Aim::Named(model) = self.aim else {
            return Ok(());
        };
        let Some(facts) = models.get(model.index()) else {
            return Ok(());
        };
        let strange = self
            .ask
            .sampling
            .logit_bias
            .iter()
            .find(|(token, _)| token.0 as usize >= facts.vocabulary);
        match strange {
            Some((token, _)) => Err(DeskError::TokenBias {
                token: token.0,
                model: facts.name.clone(),
                vocabulary: facts.vocabulary,
            }),
            None => Ok(()),
        }
    }

    pub fn fits(&self, model: ModelId) -> bool {
        matches!(self.candidates.get(model.index()), Some(Candidate::Fits(_)))
    }

    /// Prompt tokens per model; a model that cannot answer counts as the largest of the others.
    pub fn prompt_tokens(&self) -> Vec<u32> {
        let count = |candidate: &Candidate| match candidate {
            Candidate::Fits(prompts) => Some(prompts.iter().map(|prompt| prompt.len() as u32).sum()),
            _ => None,
        };
        let most = self.candidates.iter().filter_map(count).max().unwrap_or(0);
        self.candidates
            .iter()
            .map(|candidate| count(candidate).unwrap_or(most))
            .collect()
    }

    /// Tokens of the prompts on the model that needs fewest.
    pub fn shortest_prompt(&self) -> usize {
        self.prompt_tokens().into_iter().min().unwrap_or(0) as usize
    }

    /// Most tokens that an answer may have on any model.
    pub fn max_tokens(&self, models: &[ModelFacts]) -> u32 {
        let left = models.iter().filter_map(|facts| {
            let prompts = self.prompts(facts.id)?;
            Some(
                prompts
                    .iter()
                    .map(|prompt| room(facts, prompt))
                    .min()
                    .unwrap_or(1),
            )
        });
        self.ask.max_tokens.unwrap_or_else(|| left.max().unwrap_or(1))
    }

    /// The prompts in a model's tokens; `None` for one that cannot answer.
    pub fn prompts(&self, model: ModelId) -> Option<&[Vec<TokenId>]> {
        match self.candidates.get(model.index()) {
            Some(Candidate::Fits(prompts)) => Some(prompts),
            _ => None,
        }
    }

    /// One job a choice: `n` for each prompt, prompt by prompt. Choice `i` draws with seed + i.
    pub fn jobs(&self, engine: &Engine, facts: &ModelFacts) -> Vec<Job> {
        let n = self.ask.n as usize;
        let prompts = self.prompts(facts.id).unwrap_or_default();
        let each = prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt, n))
            .enumerate();
        let account = Account::Request(self.request);
        each.map(|(choice, prompt)| self.job(engine, facts, account, prompt, choice as u64))
            .collect()
    }

    /// One job a prompt for a model that answers unseen.
    pub fn exploration_jobs(&self, engine: &Engine, facts: &ModelFacts, account: RequestId) -> Vec<Job> {
        let prompts = self.prompts(facts.id).unwrap_or_default();
        prompts
            .iter()
            .map(|prompt| Job {
                logprobs: None,
                ..self.job(engine, facts, Account::Exploration(account), prompt, 0)
            })
            .collect()
    }

    fn job(
        &self,
        engine: &Engine,
        facts: &ModelFacts,
        account: Account,
        prompt: &[TokenId],
        choice: u64,
    ) -> Job {
        // A request without a seed gets one of its own, so that asking twice may answer twice.
        let mut sampling = self.ask.sampling.over(&facts.default_sampling, self.request.0);
        sampling.seed = sampling.seed.wrapping_add(choice);
        Job {
            account,
            model: facts.id,
            prompt: prompt.to_vec(),
            max_tokens: self.ask.max_tokens.unwrap_or_else(|| room(facts, prompt)),
            sampling,
            stop: self.ask.stop.clone(),
            logprobs: self.ask.logprobs,
            constraint: self.ask.constraint_in(|| engine.call_form(facts.id)),
        }
    }
}

/// Tokens that the context leaves for the answer.
fn room(facts: &ModelFacts, prompt: &[TokenId]) -> u32 {
    u32::try_from(facts.max_context.saturating_sub(prompt.len()))
        .unwrap_or(u32::MAX)
        .max(1)
}

fn aim(models: &[ModelFacts], slas: &[String], target: &Target) -> Result<Aim, DeskError> {
    match target {
        Target::Named { model } => {
            let found = models.iter().find(|facts| facts.name == *model);
            found
                .map(|facts| Aim::Named(facts.id))
                .ok_or_else(|| DeskError::UnknownModel {
                    name: model.clone(),
                    known: models.iter().map(|facts| facts.name.clone()).collect(),
                })
        }
        Target::Auto { sla, param } => {
            let place = slas
                .iter()
                .position(|name| name == sla)
                .and_then(|at| u16::try_from(at).ok());
            place
                .map(|at| Aim::Routed {
                    sla: SlaId(at),
                    name: sla.clone(),
                })
                .ok_or_else(|| DeskError::UnknownSla {
                    name: sla.clone(),
                    param,
                    known: slas.to_vec(),
                })
        }
    }
}

/// Token ids mean something else to every model, so the router cannot choose for them.
fn refuse_tokens(ask: &Ask) -> Result<(), DeskError> {
    if ask
        .prompts
        .iter()
        .any(|prompt| matches!(prompt, Prompt::Tokens(_)))
    {
        let reason = "a 'prompt' of token ids means something else to each model";
        return Err(DeskError::NeedsNamedModel {
            param: "prompt",
            reason,
        });
    }
    if !ask.sampling.logit_bias.is_empty() {
        let reason = "the token ids of 'logit_bias' mean something else to each model";
        return Err(DeskError::NeedsNamedModel {
            param: "logit_bias",
            reason,
        });
    }
    Ok(())
}

fn words(ask: &Ask) -> String {
    let each: Vec<String> = ask.prompts.iter().map(Prompt::words).collect();
    each.join("\n")
}

/// All prompts in one model's tokens.
fn tokens(engine: &Engine, facts: &ModelFacts, ask: &Ask) -> Result<Vec<Vec<TokenId>>, EngineError> {
    ask.prompts
        .iter()
        .map(|prompt| match prompt {
            Prompt::Chat(messages) => engine.tool_prompt(facts.id, messages, ask.offered()),
            Prompt::Text(text) => engine.encode(facts.id, text),
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
        })
        .collect()
}
