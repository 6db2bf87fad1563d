//! Responses that are kept for their owners: stored, found again, gone on from, deleted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::server::wire::{Item, answered_request, response_id, to_value};
use crate::store::ResponseRecord;
use crate::units::RequestId;

use super::{Desk, DeskError};

/// A response with what it was made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// What its request brought along.
    pub input: Vec<Item>,
    /// The response object.
    pub response: Value,
}

impl Kept {
    /// What was said: the input, then the output.
    fn items(self) -> Result<Vec<Item>, DeskError> {
        let Kept { mut input, response } = self;
        let output: Vec<Item> = read(response["output"].clone())?;
        input.extend(output);
        Ok(input)
    }
}

impl Desk {
    /// Returns once the response is durable.
    pub async fn keep(
        &self,
        request: RequestId,
        owner: Option<&str>,
        previous: Option<&str>,
        kept: &Kept,
    ) -> Result<(), DeskError> {
        let record = ResponseRecord {
            id: request,
            owner: owner.map(str::to_owned),
            previous: previous.and_then(answered_request),
            body: to_value(kept),
        };
        self.0.store.put_response(record).await?;
        Ok(())
    }

    /// A response of this owner's.
    pub async fn kept(&self, id: &str, owner: Option<&str>) -> Result<Value, DeskError> {
        let chain = self.chain(id, owner, "response_id").await?;
        Ok(chain.last.response)
    }

    /// What a response was made from: all that was said before it and is not deleted, and its own input.
    pub async fn input_of(&self, id: &str, owner: Option<&str>) -> Result<Vec<Item>, DeskError> {
        let mut chain = self.chain(id, owner, "response_id").await?;
        chain.before.extend(chain.last.input);
        Ok(chain.before)
    }

    /// All that was said up to the end of a response.
    ///
    /// # Errors
    /// Something of it was deleted: what is left is not what was said.
    pub async fn said_up_to(&self, id: &str, owner: Option<&str>) -> Result<Vec<Item>, DeskError> {
        let param = "previous_response_id";
        let mut chain = self.chain(id, owner, param).await?;
        if let Some(missing) = chain.missing {
            let id = response_id(missing);
            return Err(DeskError::UnknownResponse { id, param });
        }
        chain.before.extend(chain.last.items()?);
        Ok(chain.before)
    }

    /// Returns once the response is gone from the disk.
    pub async fn forget(&self, id: &str, owner: Option<&str>) -> Result<(), DeskError> {
        self.chain(id, owner, "response_id").await?;
        if let Some(request) = answered_request(id) {
            self.0.store.delete_response(request).await?;
        }
        Ok(())
    }

    /// A response and what was said before it. Somebody else's is as good as none.
    async fn chain(&self, id: &str, owner: Option<&str>, param: &'static str) -> Result<Chain, DeskError> {
        let unknown = || DeskError::UnknownResponse {
            id: id.to_owned(),
            param,
        };
        let request = answered_request(id).ok_or_else(unknown)?;
        let mut records = self.0.read(move |store| store.responses_up_to(request)).await?;
        let missing = records.first().and_then(|oldest| oldest.previous);
        let last = records.pop().filter(|last| last.owner.as_deref() == owner);
        let last = read(last.ok_or_else(unknown)?.body)?;
        let mut before = Vec::new();
        for record in records {
            before.extend(read::<Kept>(record.body)?.items()?);
        }
        Ok(Chain {
            missing,
            before,
            last,
        })
    }
}

struct Chain {
    /// The response that the oldest goes on from and that is not there.
    missing: Option<RequestId>,
    before: Vec<Item>,
    last: Kept,
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, DeskError> {
    serde_json::from_value(body).map_err(|error| DeskError::Unreadable {
        reason: error.to_string(),
    })
}
