//! Quantised weights, multiplied as they are for few tokens and as half floats for many.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device as Candle, Tensor};

use crate::model::cuda::device::{Device, Half, Memory, Region};
use crate::model::cuda::emulated::Emulated;
use crate::model::cuda::kernels::{Kernels, Kind, Matrix, Out, Rows};
use crate::model::cuda::upload::upload_now;
use crate::model::random::RandomTensor;

const OUTPUTS: usize = 40;
const INPUTS: usize = 512;
const ROWS: usize = 5;

fn memory(device: &Arc<dyn Device>, bytes: &[u8]) -> Memory {
    let memory = Memory::new(device, bytes.len() as u64, "a test").unwrap();
    upload_now(device, memory.whole(), bytes).unwrap();
    memory
}

fn read(device: &Arc<dyn Device>, from: Region) -> Vec<f32> {
    let mut bytes = vec![0; from.bytes as usize];
    // SAFETY: the region has that many bytes.
    unsafe { device.download(&mut bytes, from.at) }.unwrap();
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| f32::from_le_bytes(*word))
        .collect()
}

#[test]
fn blocks_are_repacked_and_multiplied_to_what_candle_makes_of_them() {
    let device: Arc<dyn Device> = Arc::new(Emulated::default());
    let kernels = Kernels::new(device.clone(), Half::F16);
    let random = |name: &str, count: usize| -> Vec<f32> {
        let rule = RandomTensor::named(name);
        (0..count as u64).map(|i| 20.0 * rule.value(i)).collect()
    };
    let weights = Tensor::from_vec(random("w", OUTPUTS * INPUTS), (OUTPUTS, INPUTS), &Candle::Cpu).unwrap();
    let x: Vec<half::f16> = random("x", ROWS * INPUTS)
        .into_iter()
        .map(half::f16::from_f32)
        .collect();
    for (kind, dtype) in [
        (Kind::Q8_0, GgmlDType::Q8_0),
        (Kind::Q4K, GgmlDType::Q4K),
        (Kind::Q6K, GgmlDType::Q6K),
    ] {
        let stored = QTensor::quantize(&weights, dtype).unwrap();
        let exact: Vec<Vec<f32>> = stored.dequantize(&Candle::Cpu).unwrap().to_vec2().unwrap();
        let blocks = memory(&device, &stored.data().unwrap());
        assert_eq!(blocks.bytes(), kind.bytes(OUTPUTS * INPUTS));
        let packed = Memory::new(&device, blocks.bytes(), "a test").unwrap();
        let matrix = Matrix {
            kind,
            at: packed.whole(),
            inputs: INPUTS,
            outputs: OUTPUTS,
        };
        kernels.repack(matrix, blocks.whole()).unwrap();
        let x_there = memory(&device, bytemuck::cast_slice(&x));
        let out = Memory::new(&device, (ROWS * OUTPUTS * 4) as u64, "a test").unwrap();
        let to = Out {
            rows: Rows {
                at: out.whole(),
                stride: OUTPUTS,
            },
            wide: true,
        };
        let rows = Rows {
            at: x_there.whole(),
            stride: INPUTS,
        };
        kernels.gemv(to, rows, matrix, None, ROWS).unwrap();
        let few = read(&device, out.whole());
        let dense = Memory::new(&device, Kind::Half.bytes(OUTPUTS * INPUTS), "a test").unwrap();
        kernels.dequantise(dense.whole(), matrix).unwrap();
        let dense = Matrix {
            kind: Kind::Half,
            at: dense.whole(),
            ..matrix
        };
        kernels.multiply(to, x_there.whole(), dense, ROWS).unwrap();
        let many = read(&device, out.whole());
        for row in 0..ROWS {
            for output in 0..OUTPUTS {
                let x = &x[row * INPUTS..][..INPUTS];
                let terms = x
                    .iter()
                    .zip(&exact[output])
                    .map(|(x, w)| f64::from(x.to_f32() * w));
                let size: f64 = terms.clone().map(f64::abs).sum();
                let want: f64 = terms.sum();
                for got in [few[row * OUTPUTS + output], many[row * OUTPUTS + output]] {
                    let off = (f64::from(got) - want).abs() / size;
                    assert!(
                        off < 1e-3,
                        "{kind:?}, row {row}, output {output}: {got} for {want}"
                    );
                }
            }
        }
    }
}
