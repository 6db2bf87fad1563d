//! candle's blocks and candle's values: what it quantises comes back as it dequantises it, and products are near.

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};

use super::{Activations, Kind, PackedMatrix, supported};

fn candles(kind: Kind) -> GgmlDType {
    match kind {
        Kind::Q4_0 => GgmlDType::Q4_0,
        Kind::Q4_1 => GgmlDType::Q4_1,
        Kind::Q5_0 => GgmlDType::Q5_0,
        Kind::Q5_1 => GgmlDType::Q5_1,
        Kind::Q8_0 => GgmlDType::Q8_0,
        Kind::Q4_K => GgmlDType::Q4K,
        Kind::Q5_K => GgmlDType::Q5K,
        Kind::Q6_K => GgmlDType::Q6K,
    }
}

#[test]
fn candles_blocks_are_read_as_candle_reads_them() {
    if !supported() {
        return;
    }
    let (rows, columns) = (11, 512);
    let wave = |scale: f32, count: usize| -> Vec<f32> {
        (0..count)
            .map(|i| (i as f32 * scale).sin() + (i as f32 * 0.37 * scale).cos())
            .collect()
    };
    let weights = Tensor::from_vec(wave(0.91, rows * columns), (rows, columns), &Device::Cpu).unwrap();
    let x = wave(1.7, columns);
    for kind in Kind::ALL {
        let quantised = QTensor::quantize(&weights, candles(kind)).unwrap();
        let matrix = PackedMatrix::pack(kind, &quantised.data().unwrap(), rows, columns).unwrap();
        let expected: Vec<Vec<f32>> = quantised.dequantize(&Device::Cpu).unwrap().to_vec2().unwrap();
        let activations = Activations::quantise(matrix.activations(), &x, columns);
        let mut out = vec![0.0; rows];
        matrix.multiply(&activations, &mut out, rows);
        for (n, expected) in expected.iter().enumerate() {
            let mut row = vec![0.0; columns];
            matrix.row(n, &mut row);
            assert_eq!(&row, expected, "{kind:?}, row {n}");
            let sum: f32 = expected.iter().zip(&x).map(|(w, x)| w * x).sum();
            // The activations' rounding to 8 bits: at most 1/254 of the greatest each, with signs that cancel.
            assert!(
                (out[n] - sum).abs() < 0.5,
                "{kind:?}, row {n}: {} for {sum}",
                out[n]
            );
        }
    }
}
