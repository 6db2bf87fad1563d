//! The request log as a trace: the columns of the MESS+ authors' captures, so that `replay` reads what the
//! server wrote.

use std::io::Write;

use super::error::StoreError;
use super::record::RequestRecord;

/// The header line for models in rising order of cost.
pub fn header(models: &[String]) -> String {
    let mut fields = vec![
        "doc_id".to_owned(),
        "input_text".to_owned(),
        "benchmark_name".to_owned(),
    ];
    for model in models {
        for column in ["label", "energy_consumption", "inference_time"] {
            fields.push(format!("{column}_{model}"));
        }
    }
    line(&fields)
}

/// One request; the service level stands in the benchmark's place, what is not known is empty.
pub fn row(record: &RequestRecord, models: &[String]) -> String {
    let sla = record.sla.clone().unwrap_or_default();
    let mut fields = vec![record.id.to_string(), record.input_text.clone(), sla];
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    for model in models {
        let answer = record.answers.iter().find(|a| a.model == *model);
        let shown = *model == record.model;
        let said = record.feedback.as_ref().filter(|_| shown).map(|f| f.satisfied);
        let total = record.timing.total_ms.filter(|_| shown).map(|ms| ms / 1000.0);
        let joules = (shown && record.energy.settled).then(|| record.energy.joules());
        fields.push(number(said.or(answer.and_then(|a| a.label))));
        fields.push(number(answer.and_then(|a| a.joules).or(joules)));
        fields.push(number(answer.and_then(|a| a.seconds).or(total)));
    }
    line(&fields)
}

/// RFC 4180, with a bare line feed.
fn line(fields: &[String]) -> String {
    let quoted: Vec<_> = fields
        .iter()
        .map(|field| match field.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.clone(),
        })
        .collect();
    quoted.join(",") + "\n"
}

pub fn put(out: &mut dyn Write, text: &str) -> Result<(), StoreError> {
    out.write_all(text.as_bytes())
        .map_err(|error| StoreError::Export(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AnswerRecord, FeedbackRecord};
    use crate::units::RequestId;

    #[test]
    fn columns_are_the_captures_and_commas_are_safe() {
        let models = ["small".to_owned(), "large".to_owned()];
        let head = "doc_id,input_text,benchmark_name,label_small,energy_consumption_small,inference_time_small,\
                    label_large,energy_consumption_large,inference_time_large\n";
        assert_eq!(header(&models), head);
        let mut record = RequestRecord::new(RequestId(1), 0.0, "auto", "small");
        record.input_text = "Say \"hi\", please\nnow".into();
        record.sla = Some("default".into());
        record.feedback = Some(FeedbackRecord {
            satisfied: 1.0,
            source: "user".into(),
            at: 0.0,
        });
        record.energy.prefill_joules = 0.5;
        record.energy.settled = true;
        record.timing.total_ms = Some(250.0);
        record.answers.push(AnswerRecord {
            model: "large".into(),
            label: Some(0.0),
            joules: Some(3.0),
            seconds: None,
            ..AnswerRecord::default()
        });
        let expected = "req_0000000000000001,\"Say \"\"hi\"\", please\nnow\",default,1,0.5,0.25,0,3,\n";
        assert_eq!(row(&record, &models), expected);
    }
}
