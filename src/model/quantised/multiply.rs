use rayon::prelude::*;

use super::{
    ActivationKind, Activations, GROUP, PackedMatrix,
    activations::{CHUNK, Chunk},
};

/// Products of fewer multiplications than this stay on the calling thread: waking another costs more.
const PARALLEL_PRODUCTS: usize = 100_000;

/// Tasks a thread gets, so that one that comes late or is held up leaves work for the others to take.
const TASKS_PER_THREAD: usize = 8;

/// A matrix, the activations it multiplies with and the column of the output its rows begin at.
pub(super) type Part<'a> = (&'a PackedMatrix, &'a Activations, usize);

/// What a group of rows is computed in, one entry a token of the chunk.
#[repr(C, align(32))]
pub(super) struct Sums {
    /// The outputs so far; a kernel adds to them.
    pub(super) outputs: [[f32; GROUP]; CHUNK],
    /// A kernel's own: the integer sums of the present block.
    pub(super) totals: [[i32; GROUP]; CHUNK],
}

/// Products of `x`, which is `[tokens, columns]`, with several matrices of the same columns, side by side:
/// `out` is `[tokens, parts[0].rows() + parts[1].rows() + ..]`. All of them share one parallel region.
///
/// # Panics
///
/// When the matrices differ in their columns or `x` or `out` are not of these shapes.
pub fn multiply_all(parts: &[&PackedMatrix], x: &[f32], tokens: usize, out: &mut [f32]) {
    let Some(first) = parts.first() else { return };
    let columns = first.columns();
    assert_eq!(x.len(), tokens * columns, "activations are [tokens, columns]");
    let stride = parts.iter().map(|part| part.rows()).sum::<usize>();
    assert_eq!(
        out.len(),
        tokens * stride,
        "outputs are [tokens, rows of all parts]"
    );
    let mut kinds: Vec<ActivationKind> = Vec::new();
    for part in parts {
        if !kinds.contains(&part.activations()) {
            kinds.push(part.activations());
        }
    }
    let quantised: Vec<Activations> = kinds
        .into_iter()
        .map(|kind| Activations::quantise(kind, x, columns))
        .collect();
    let mut offset = 0;
    let placed: Vec<Part<'_>> = parts
        .iter()
        .map(|&part| {
            let x = quantised
                .iter()
                .find(|x| x.kind() == part.activations())
                .expect("every part's kind has been quantised");
            let start = offset;
            offset += part.rows();
            (part, x, start)
        })
        .collect();
    run(&placed, out, stride);
}

/// Multiplies every part into its columns of `out`, whose rows are `stride` apart.
pub(super) fn run(parts: &[Part<'_>], out: &mut [f32], stride: usize) {
    let mut products = 0;
    let mut groups = 0;
    for &(matrix, x, offset) in parts {
        assert_eq!(
            x.columns(),
            matrix.columns(),
            "activations have the matrix's columns"
        );
        assert_eq!(
            x.kind(),
            matrix.activations(),
            "activations are quantised for the matrix"
        );
        let end = offset + matrix.rows();
        assert!(end <= stride, "{end} outputs do not fit rows of {stride}");
        if let Some(last) = x.tokens().checked_sub(1) {
            assert!(
                last * stride + end <= out.len(),
                "the output holds every token's row"
            );
        }
        products += matrix.rows() * matrix.columns() * x.tokens();
        groups += matrix.groups();
    }
    let target = Target::new(out, stride);
    let threads = rayon::current_num_threads();
    if threads == 1 || products < PARALLEL_PRODUCTS {
        run_groups(parts, 0, groups, &target);
        return;
    }
    let tasks = groups.min(threads * TASKS_PER_THREAD);
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let (start, end) = (task * groups / tasks, (task + 1) * groups / tasks);
        run_groups(parts, start, end, &target);
    });
}

/// Computes the groups `start..end`, counted through all parts.
fn run_groups(parts: &[Part<'_>], start: usize, end: usize, target: &Target) {
    let mut before = 0;
    let mut sums = Sums {
        outputs: [[0.0; GROUP]; CHUNK],
        totals: [[0; GROUP]; CHUNK],
    };
    for &(matrix, x, offset) in parts {
        let own = start.max(before)..end.min(before + matrix.groups());
        // Tokens outside, groups inside: a chunk's activations stay in the second-level cache while weights stream by.
        for first in (0..x.tokens()).step_by(CHUNK) {
            let chunk = x.chunk(first);
            for group in own.clone() {
                let group = group - before;
                sums.outputs[..chunk.tokens].fill([0.0; GROUP]);
                multiply_group(matrix, group, &chunk, &mut sums);
                let lanes = GROUP.min(matrix.rows() - group * GROUP);
                for (t, values) in sums.outputs[..chunk.tokens].iter().enumerate() {
                    // SAFETY: `run` has checked that `out` reaches to the last row of the last token, and groups,
                    // parts and tokens have disjoint outputs, so no two tasks write the same place.
                    unsafe { target.write(first + t, offset + group * GROUP, values, lanes) };
                }
            }
        }
        before += matrix.groups();
    }
}

#[cfg(target_arch = "x86_64")]
fn multiply_group(matrix: &PackedMatrix, group: usize, x: &Chunk<'_>, sums: &mut Sums) {
    // SAFETY: a matrix exists only where the processor has the features (`PackedMatrix::pack`), its groups are whole,
    // and `run` has checked that the activations have its kind and its columns.
    unsafe { super::x86::multiply_group(matrix.kind(), matrix.group(group), matrix.blocks(), x, sums) };
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_group(_: &PackedMatrix, _: usize, _: &Chunk<'_>, _: &mut Sums) {
    unreachable!("no matrix is packed where there are no kernels")
}

/// The output that tasks share, each writing its own places.
pub(in crate::model) struct Target {
    first: *mut f32,
    stride: usize,
}

// SAFETY: the pointer is only written through `write`, whose callers keep to places of their own.
unsafe impl Sync for Target {}

impl Target {
    /// An output of rows that begin `stride` apart. It must outlive every write.
    pub(in crate::model) fn new(out: &mut [f32], stride: usize) -> Self {
        Self {
            first: out.as_mut_ptr(),
            stride,
        }
    }

    /// Writes all of the values.
    ///
    /// # Safety
    ///
    /// As for [`Self::write`].
    pub(in crate::model) unsafe fn write_all(&self, token: usize, column: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = self.first.add(token * self.stride + column);
            std::ptr::copy_nonoverlapping(values.as_ptr(), at, values.len());
        }
    }

    /// Writes the first `lanes` of the values.
    ///
    /// # Safety
    ///
    /// The places are inside the output and nobody else reads or writes them meanwhile.
    unsafe fn write(&self, token: usize, column: usize, values: &[f32; GROUP], lanes: usize) {
        // SAFETY: the caller's promise, and `lanes` is at most `GROUP`.
        unsafe {
            let at = self.first.add(token * self.stride + column);
            if lanes == GROUP {
                at.cast::<[f32; GROUP]>().write_unaligned(*values);
            } else {
                std::ptr::copy_nonoverlapping(values.as_ptr(), at, lanes);
            }
        }
    }
}
