//! Words that change a card while it runs: `vanish 0 gpu_lost`, `return 0`, `reset 0`, `jump 0 -5000` (millijoules).

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

use crate::board::Board;
use crate::config::Fault;

/// Obeys one line; false when it makes no sense.
pub(crate) fn obey(line: &str, now: u64, boards: &mut [Board]) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(board) = words
        .get(1)
        .and_then(|w| w.parse::<usize>().ok())
        .and_then(|place| boards.get_mut(place))
    else {
        return false;
    };
    match words[..] {
        ["vanish", _] => board.impose(Some(Fault::GpuLost)),
        ["vanish", _, fault] => {
            let fault: Result<Fault, Error> = Fault::deserialize(fault.into_deserializer());
            let Ok(fault) = fault else { return false };
            board.impose(Some(fault));
        }
        ["return", _] => board.impose(None),
        ["reset", _] => board.reset(now),
        ["jump", _, millijoules] => match millijoules.parse() {
            Ok(millijoules) => board.jump(now, millijoules),
            Err(_) => return false,
        },
        _ => return false,
    }
    true
}
