//! Expected values: transformers 5.23.0 with torch 2.15.0, `ROPE_INIT_FUNCTIONS` and `LlamaRotaryEmbedding`.

use super::*;

fn rope(rotary_dim: usize, base: f64, max_positions: usize, scaling: RopeScaling) -> Rope {
    Rope {
        rotary_dim,
        base,
        scaling,
        max_positions,
    }
}

/// Frequencies in a sequence `extent` long and the attention factor, against transformers' within 2 units in the
/// last place: torch's vectorised powers are one off here and there.
#[track_caller]
fn agrees(rope: &Rope, extent: usize, factor: f64, want: &[f32]) {
    let got = rope.inverse_frequencies(rope.extent_that_matters(extent));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 2.5e-7 * want, "{got} is not {want}");
    }
    assert_eq!(rope.attention_factor(), factor as f32);
}

const PLAIN: [f32; 8] = [
    1.0,
    0.31622776,
    0.1,
    0.03162278,
    0.01,
    0.0031622779,
    0.001,
    0.0003162278,
];

#[test]
fn plain_linear_and_divided_frequencies() {
    agrees(&rope(16, 1e4, 512, RopeScaling::Default), 9999, 1.0, &PLAIN);
    let want = [
        0.125,
        0.022228492,
        0.0039528473,
        0.00070292666,
        0.000125,
        2.2228493e-05,
        3.952847e-06,
        7.029267e-07,
    ];
    let linear = RopeScaling::Linear { factor: 8.0 };
    agrees(&rope(16, 1e6, 512, linear), 1, 1.0, &want);
    let divisors: Vec<f32> = (1..=8).map(|i| i as f32).collect();
    let want: Vec<f32> = PLAIN.iter().zip(&divisors).map(|(f, d)| f / d).collect();
    agrees(&rope(16, 1e4, 512, RopeScaling::Factors(divisors)), 1, 1.0, &want);
}

#[test]
fn a_dynamic_base_grows_past_the_trained_length_only() {
    let rope = rope(16, 1e4, 512, RopeScaling::Dynamic { factor: 2.0 });
    agrees(&rope, 3, 1.0, &PLAIN);
    agrees(&rope, 512, 1.0, &PLAIN);
    let at_700 = [
        1.0,
        0.29230532,
        0.085442394,
        0.024975266,
        0.0073004034,
        0.0021339466,
        0.00062376395,
        0.00018232953,
    ];
    agrees(&rope, 700, 1.0, &at_700);
    let at_1900 = [
        1.0,
        0.24244863,
        0.05878134,
        0.014251455,
        0.0034552459,
        0.00083771953,
        0.00020310396,
        4.924228e-05,
    ];
    agrees(&rope, 1900, 1.0, &at_1900);
}

fn yarn(factor: f64, original_max: usize) -> Yarn {
    Yarn {
        factor: Some(factor),
        original_max,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale: None,
        mscale_all_dim: None,
        attention_factor: None,
        truncate: true,
    }
}

#[test]
fn yarn_blends_and_sharpens() {
    let want = [
        1.0,
        0.34262842,
        0.111142464,
        0.03280787,
        0.007905695,
        0.0033338037,
        0.0014058533,
        0.00059284345,
        0.00025,
        0.00010542412,
        4.4456985e-05,
        1.8747356e-05,
        7.905694e-06,
        3.3338035e-06,
        1.4058534e-06,
        5.9284343e-07,
    ];
    let factor = 1.138629436111989;
    let given = rope(32, 1e6, 512, RopeScaling::Yarn(yarn(4.0, 128)));
    agrees(&given, 1, factor, &want);
    let implied = Yarn {
        factor: None,
        ..yarn(4.0, 128)
    };
    agrees(&rope(32, 1e6, 512, RopeScaling::Yarn(implied)), 1, factor, &want);

    let want = [
        1.0,
        0.56234133,
        0.31622776,
        0.17782794,
        0.1,
        0.05623413,
        0.03162278,
        0.01509612,
        0.0057901046,
        0.0017382187,
        0.00012395246,
        4.4456985e-05,
        2.5e-05,
        1.40585325e-05,
        7.9056945e-06,
        4.4456983e-06,
    ];
    let with_mscale = Yarn {
        beta_fast: 16.0,
        beta_slow: 2.0,
        mscale: Some(0.707),
        mscale_all_dim: Some(1.2),
        truncate: false,
        ..yarn(40.0, 4096)
    };
    let with_mscale = rope(32, 1e4, 163_840, RopeScaling::Yarn(with_mscale));
    agrees(&with_mscale, 1, 0.8739404576185121, &want);
}

#[test]
fn long_factors_hold_past_the_original_length() {
    let long = LongRope {
        short_factor: vec![1.0, 1.05, 1.1, 1.25, 1.5, 2.0],
        long_factor: vec![1.0, 1.5, 3.0, 8.0, 20.0, 40.0],
        original_max: 256,
        factor: None,
        attention_factor: None,
    };
    let short = [1.0, 0.20518427, 0.042196255, 0.008, 0.0014362895, 0.00023207947];
    let longer = [1.0, 0.14362897, 0.01547196, 0.00125, 0.00010772171, 1.1603974e-05];
    let implied = rope(12, 1e4, 8192, RopeScaling::LongRope(long.clone()));
    for (extent, want) in [(200, &short), (256, &short), (257, &longer), (8000, &longer)] {
        agrees(&implied, extent, 1.2747548783981961, want);
    }
    let given = LongRope {
        factor: Some(4.0),
        ..long.clone()
    };
    let given = rope(12, 1e4, 8192, RopeScaling::LongRope(given));
    agrees(&given, 200, 1.118033988749895, &short);
    let told = LongRope {
        attention_factor: Some(1.19),
        ..long
    };
    let told = rope(12, 1e4, 8192, RopeScaling::LongRope(told));
    agrees(&told, 200, 1.19, &short);

    // Within one batch every token has the factors of its own sequence.
    let mixed = implied.tables(&[7, 7, 7], &[200, 300, 8]);
    for (token, extent) in [(0, 200), (1, 300), (2, 8)] {
        let alone = implied.tables(&[7], &[extent]);
        assert_eq!(mixed.cos[token * 6..][..6], alone.cos);
        assert_eq!(mixed.sin[token * 6..][..6], alone.sin);
    }
    assert_ne!(mixed.cos[..6], mixed.cos[6..12]);
}

#[test]
fn llama3_keeps_high_frequencies() {
    let want = [
        1.0,
        0.44036663,
        0.19392276,
        0.0853971,
        0.03760603,
        0.01656044,
        0.007292665,
        0.003211446,
        0.000524846,
        7.7846555e-05,
        3.4281024e-05,
        1.5096218e-05,
        6.6478697e-06,
        2.9274997e-06,
        1.2891732e-06,
        5.677088e-07,
    ];
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max: 8192,
    };
    agrees(&rope(32, 5e5, 131_072, scaling), 1, 1.0, &want);
}

#[test]
fn tables_carry_the_attention_factor_and_the_rest_of_a_head_passes() {
    let scaling = Yarn {
        attention_factor: Some(1.25),
        ..yarn(2.0, 256)
    };
    let rope = rope(8, 1e4, 512, RopeScaling::Yarn(scaling));
    let rotary = rope.tables(&[3, 777], &[4, 778]);
    let cos = [
        -1.2374907,
        1.2184926,
        1.2498595,
        1.2499986,
        -0.6471478,
        -0.19363883,
        -0.92020845,
        1.1568478,
    ];
    let sin = [
        0.1764,
        0.27888295,
        0.018749297,
        0.0018749993,
        -1.0694389,
        1.2349105,
        -0.84600025,
        0.4735008,
    ];
    for (got, want) in rotary.cos.iter().chain(&rotary.sin).zip(cos.iter().chain(&sin)) {
        assert!((got - want).abs() < 5e-5, "{got} is not {want}");
    }
    let mut head: Vec<f32> = (0..12).map(|i| i as f32).collect();
    rotary.turn(0, &mut head);
    assert_eq!(head[8..], [8.0, 9.0, 10.0, 11.0]);
    let (a, b) = (2.0, 6.0);
    assert!((head[2] - (a * cos[2] - b * sin[2])).abs() < 1e-4);
    assert!((head[6] - (b * cos[2] + a * sin[2])).abs() < 1e-4);
}
