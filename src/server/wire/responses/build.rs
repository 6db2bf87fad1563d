//! A response grows from what its answer says. The events of a stream and the object at its end are made in one place,
//! so that they cannot differ.

use serde_json::Value;

use crate::engine::{FinishReason, Logprobs};
use crate::server::wire::answer::{Usage, unix_seconds};
use crate::server::wire::extension::Extension;
use crate::server::wire::logprobs;
use crate::units::RequestId;

use super::event::ResponseEvent;
use super::item::{Item, Part, Role, Status};
use super::object::{Echo, IncompleteDetails, ResponseError, ResponseObject};

pub struct ResponseBuilder {
    request: RequestId,
    response: ResponseObject,
    with_logprobs: bool,
    /// Whether the last item of the output is still growing.
    open: bool,
}

impl ResponseBuilder {
    /// `with_logprobs`: whether the client asked for them.
    pub fn new(request: RequestId, model: &str, echo: Echo, with_logprobs: bool) -> Self {
        Self {
            request,
            response: ResponseObject::begun(request, model, echo),
            with_logprobs,
            open: false,
        }
    }

    /// How a stream begins.
    pub fn begin(&self) -> Vec<ResponseEvent> {
        let response = || Box::new(self.response.clone());
        vec![
            ResponseEvent::Created { response: response() },
            ResponseEvent::InProgress { response: response() },
        ]
    }

    pub fn text(&mut self, text: &str, tokens: &[Logprobs]) -> Vec<ResponseEvent> {
        let mut events = Vec::new();
        if !matches!(self.growing(), Some(Item::Message { .. })) {
            events.extend(self.close(Status::Completed));
            events.extend(self.open_message());
        }
        if text.is_empty() && tokens.is_empty() {
            return events;
        }
        let likely = if self.with_logprobs {
            logprobs::items(tokens)
        } else {
            Vec::new()
        };
        if let Some(Item::Message { content, .. }) = self.growing()
            && let Some(Part::OutputText {
                text: all, logprobs, ..
            }) = content.last_mut()
        {
            all.push_str(text);
            logprobs.extend(likely.iter().cloned());
        }
        events.push(ResponseEvent::TextDelta {
            item_id: self.last_id(),
            output_index: self.last_index(),
            content_index: 0,
            delta: text.to_owned(),
            logprobs: likely,
        });
        events
    }

    pub fn call(&mut self, call_id: &str, name: &str) -> Vec<ResponseEvent> {
        let mut events = self.close(Status::Completed);
        events.push(self.add(Item::FunctionCall {
            id: self.fresh_id("fc"),
            status: Status::InProgress,
            call_id: call_id.to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
        }));
        events
    }

    pub fn arguments(&mut self, text: &str) -> Vec<ResponseEvent> {
        if let Some(Item::FunctionCall { arguments, .. }) = self.growing() {
            arguments.push_str(text);
        }
        vec![ResponseEvent::ArgumentsDelta {
            item_id: self.last_id(),
            output_index: self.last_index(),
            delta: text.to_owned(),
        }]
    }

    /// The model has said all it will say.
    pub fn done(&mut self, finish: FinishReason) -> Vec<ResponseEvent> {
        let mut events = Vec::new();
        if self.response.output.is_empty() {
            events.extend(self.open_message());
        }
        let status = match finish {
            FinishReason::Stop => Status::Completed,
            FinishReason::Length => Status::Incomplete,
        };
        if status == Status::Incomplete {
            let reason = "max_output_tokens";
            self.response.incomplete_details = Some(IncompleteDetails { reason });
        }
        self.response.status = status;
        events.extend(self.close(status));
        events
    }

    /// What it took is known; the response is as it will stay.
    pub fn settle(&mut self, usage: &Usage, extension: Extension) -> &ResponseObject {
        self.response.completed_at = (self.response.status == Status::Completed).then(unix_seconds);
        self.response.usage = Some(usage.into());
        self.response.messplus = Some(extension);
        &self.response
    }

    /// The last event of a response that is settled.
    pub fn end(&self) -> ResponseEvent {
        let response = Box::new(self.response.clone());
        match self.response.status {
            Status::Completed => ResponseEvent::Completed { response },
            _ => ResponseEvent::Incomplete { response },
        }
    }

    /// The last event of a response that came to nothing.
    pub fn fail(&mut self, message: String) -> ResponseEvent {
        self.response.status = Status::Failed;
        self.response.incomplete_details = None;
        let code = "server_error";
        self.response.error = Some(ResponseError { code, message });
        ResponseEvent::Failed {
            response: Box::new(self.response.clone()),
        }
    }

    fn open_message(&mut self) -> [ResponseEvent; 2] {
        let id = self.fresh_id("msg");
        let added = self.add(Item::Message {
            id,
            status: Status::InProgress,
            role: Role::Assistant,
            content: Vec::new(),
        });
        let part = Part::spoken(String::new());
        if let Some(Item::Message { content, .. }) = self.growing() {
            content.push(part.clone());
        }
        let part = ResponseEvent::PartAdded {
            item_id: self.last_id(),
            output_index: self.last_index(),
            content_index: 0,
            part,
        };
        [added, part]
    }

    fn add(&mut self, item: Item) -> ResponseEvent {
        self.response.output.push(item.clone());
        self.open = true;
        ResponseEvent::ItemAdded {
            output_index: self.last_index(),
            item,
        }
    }

    /// Ends the item that is growing, if there is one.
    fn close(&mut self, status: Status) -> Vec<ResponseEvent> {
        let index = self.last_index();
        let Some(item) = self.growing() else {
            return Vec::new();
        };
        item.set_status(status);
        let item = item.clone();
        self.open = false;
        let (item_id, output_index) = (item.id().to_owned(), index);
        let mut events = match &item {
            Item::Message { content, .. } => content
                .first()
                .into_iter()
                .flat_map(|part| text_ends(&item_id, index, part))
                .collect(),
            Item::FunctionCall { name, arguments, .. } => vec![ResponseEvent::ArgumentsDone {
                item_id,
                output_index,
                name: name.clone(),
                arguments: arguments.clone(),
            }],
            Item::FunctionCallOutput { .. } => Vec::new(),
        };
        events.push(ResponseEvent::ItemDone { output_index, item });
        events
    }

    fn growing(&mut self) -> Option<&mut Item> {
        self.response.output.last_mut().filter(|_| self.open)
    }

    fn last_index(&self) -> usize {
        self.response.output.len().saturating_sub(1)
    }

    fn last_id(&self) -> String {
        self.response
            .output
            .last()
            .map(Item::id)
            .unwrap_or_default()
            .to_owned()
    }

    fn fresh_id(&self, kind: &str) -> String {
        format!("{kind}_{:016x}{:04x}", self.request.0, self.response.output.len())
    }
}

fn text_ends(item: &str, output_index: usize, part: &Part) -> [ResponseEvent; 2] {
    let (text, logprobs): (String, Vec<Value>) = match part {
        Part::OutputText { text, logprobs, .. } => (text.clone(), logprobs.clone()),
        _ => Default::default(),
    };
    let item_id = || item.to_owned();
    [
        ResponseEvent::TextDone {
            item_id: item_id(),
            output_index,
            content_index: 0,
            text,
            logprobs,
        },
        ResponseEvent::PartDone {
            item_id: item_id(),
            output_index,
            content_index: 0,
            part: part.clone(),
        },
    ]
}
