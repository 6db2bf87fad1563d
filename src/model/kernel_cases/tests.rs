use proptest::prelude::*;

use super::on_the_cpu::Cpu;
use super::*;

/// Runs a family's case of this seed.
fn run(family: &str, seed: u64) -> Result<f64, String> {
    let (_, random) = FAMILIES
        .iter()
        .find(|(name, _)| *name == family)
        .expect("the family is listed");
    let case = random(&mut Chance::new(seed), Size::Small);
    case.check(&mut Cpu::default())
        .map_err(|error| format!("{error}\n{case:#?}"))
}

macro_rules! families {
    ($($name:ident: $cases:literal,)*) => {
        $(proptest! {
            #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases($cases) })]
            #[test]
            fn $name(seed in any::<u64>()) {
                if let Err(error) = run(stringify!($name), seed) {
                    prop_assert!(false, "{error}");
                }
            }
        })*

        #[test]
        fn every_family_is_run() {
            let run = [$(stringify!($name)),*];
            assert_eq!(FAMILIES.map(|(name, _)| name).as_slice(), run);
        }
    };
}

families! {
    embed: 60,
    rms_norm: 40,
    residual_norm: 40,
    activation: 60,
    add_bias: 30,
    finish_logits: 30,
    rope_kv: 60,
    decode_attention: 40,
    prefill_attention: 24,
    repack: 60,
    gemv: 60,
    moe: 40,
}
