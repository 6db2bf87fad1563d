//! A real device, by NVIDIA's driver and cuBLAS.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::CudaBlas;
use cudarc::cublas::{result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream, DriverError, result, sys};

use super::device::{Address, Arg, Device, DeviceError, Graph, Half, Launch, Product};
use super::libraries;
use super::open::CudaFacts;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

/// What cuBLAS may use beside the matrices; NVIDIA's advice for Hopper, and enough elsewhere.
const BLAS_WORKSPACE: u64 = 32 << 20;
/// A kernel that wants more dynamic shared memory must say so first.
const PLAIN_SHARED: u32 = 48 << 10;

pub struct Driver {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    blas: CudaBlas,
    workspace: Address,
    modules: Vec<Module>,
    functions: Mutex<HashMap<String, Function>>,
    name: String,
    most_shared: u32,
}

struct Module(sys::CUmodule);

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    /// Bytes of dynamic shared memory it was told it may have.
    shared: u32,
}

struct Captured(CudaGraph);

// SAFETY: a module's handle may be used by any thread; the driver locks.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}
// SAFETY: as for modules; each belongs to one that lives as long as the device.
unsafe impl Send for Function {}
// SAFETY: a graph may move between threads, as long as one at a time uses it: it is reached through the one thread
// that owns the lane.
unsafe impl Send for Captured {}

impl Driver {
    /// Opens device `ordinal` with a stream of its own, loads the kernels and cuBLAS.
    ///
    /// # Errors
    /// One sentence that says what is missing.
    pub fn open(ordinal: usize) -> Result<Self, String> {
        let context = open_context(ordinal)?;
        let opened = |e: DriverError| format!("cuda:{ordinal} cannot be opened ({})", text(&e));
        // SAFETY: all memory here is used on one stream, whose order is all the order there is.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(opened)?;
        let name = format!("cuda:{ordinal} ({})", context.name().map_err(opened)?.trim());
        let limit = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let most_shared = context.attribute(limit).map_err(opened)? as u32;
        let modules = embedded::MODULES
            .iter()
            .map(|(family, image)| {
                // SAFETY: the image is a whole fatbin, as nvcc wrote it.
                let loaded = unsafe { result::module::load_data(image.as_ptr().cast()) };
                loaded
                    .map(Module)
                    .map_err(|e| format!("{name} does not take the kernels of {family} ({})", text(&e)))
            })
            .collect::<Result<_, _>>()?;
        let blas =
            CudaBlas::new(stream.clone()).map_err(|e| format!("cuBLAS does not start on {name} ({e:?})"))?;
        let mut driver = Self {
            context,
            stream,
            blas,
            workspace: Address(0),
            modules,
            functions: Mutex::default(),
            name,
            most_shared,
        };
        driver.give_blas_its_workspace().map_err(|e| e.to_string())?;
        Ok(driver)
    }

    /// Its own memory lets cuBLAS be captured, and keeps it from allocating within a step.
    fn give_blas_its_workspace(&mut self) -> Result<(), DeviceError> {
        self.workspace = self.allocate(BLAS_WORKSPACE, "cuBLAS")?;
        let handle = *self.blas.handle();
        // SAFETY: the handle is live, and the memory stays until the device is dropped.
        let status = unsafe {
            blas_sys::cublasSetWorkspace_v2(handle, self.workspace.0 as *mut c_void, BLAS_WORKSPACE as usize)
        };
        status
            .result()
            .map_err(|e| self.failed("give cuBLAS memory", format!("{e:?}")))?;
        // Partial sums stay f32 where a product is split.
        let exact = blas_sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle is live.
        let status = unsafe { blas_sys::cublasSetMathMode(handle, exact) };
        status
            .result()
            .map_err(|e| self.failed("set cuBLAS up", format!("{e:?}")))
    }

    fn failed(&self, what: &str, reason: String) -> DeviceError {
        DeviceError::Failed {
            device: self.name.clone(),
            what: what.to_owned(),
            reason,
        }
    }

    fn done<T>(&self, what: &str, result: Result<T, DriverError>) -> Result<T, DeviceError> {
        result.map_err(|e| self.failed(what, text(&e)))
    }

    fn bind(&self) -> Result<(), DeviceError> {
        self.done("be used on this thread", self.context.bind_to_thread())
    }

    fn function(&self, kernel: &str, shared: u32) -> Result<sys::CUfunction, DeviceError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = match functions.get_mut(kernel) {
            Some(function) => function,
            None => {
                let handle = self.find(kernel)?;
                functions.entry(kernel.to_owned()).or_insert(Function {
                    handle,
                    shared: PLAIN_SHARED,
                })
            }
        };
        if shared > function.shared {
            let limit = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a module that is loaded.
            let set =
                unsafe { result::function::set_function_attribute(function.handle, limit, shared as i32) };
            self.done(&format!("give {kernel} {shared} bytes of shared memory"), set)?;
            function.shared = shared;
        }
        Ok(function.handle)
    }

    fn find(&self, kernel: &str) -> Result<sys::CUfunction, DeviceError> {
        let name = CString::new(kernel).map_err(|e| self.failed("find a kernel", e.to_string()))?;
        self.modules
            .iter()
            // SAFETY: the module is loaded as long as the device is.
            .find_map(|module| unsafe { result::module::get_function(module.0, name.clone()) }.ok())
            .ok_or_else(|| {
                self.failed(
                    &format!("find the kernel {kernel}"),
                    "this build lacks it".to_owned(),
                )
            })
    }
}

impl Device for Driver {
    fn name(&self) -> &str {
        &self.name
    }

    fn most_shared(&self) -> u32 {
        self.most_shared
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        let (free, _) = self.done("say what memory is free", self.context.mem_get_info())?;
        Ok(free as u64)
    }

    fn allocate(&self, bytes: u64, what: &str) -> Result<Address, DeviceError> {
        self.bind()?;
        // SAFETY: nothing; who uses the address promises to stay within.
        match unsafe { result::malloc_sync(bytes as usize) } {
            Ok(at) => Ok(Address(at)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Err(DeviceError::OutOfMemory {
                device: self.name.clone(),
                what: what.to_owned(),
                wanted: bytes,
                free: self.free_bytes().unwrap_or_default(),
            }),
            Err(error) => Err(self.failed(&format!("allocate memory for {what}"), text(&error))),
        }
    }

    unsafe fn free(&self, at: Address) {
        if self.bind().is_ok() {
            // SAFETY: the caller's promise. An error here is one that earlier work left, and that work has told.
            let _ = unsafe { result::free_sync(at.0) };
        }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        self.bind()?;
        // SAFETY: nothing; who uses the address promises to stay within.
        let at = self.done("pin main memory", unsafe { result::malloc_host(bytes, 0) })?;
        NonNull::new(at.cast()).ok_or_else(|| self.failed("pin main memory", "it gave none".to_owned()))
    }

    unsafe fn free_pinned(&self, at: NonNull<u8>, _: usize) {
        if self.bind().is_ok() {
            // SAFETY: the caller's promise.
            let _ = unsafe { result::free_host(at.as_ptr().cast()) };
        }
    }

    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), DeviceError> {
        self.bind()?;
        // SAFETY: the caller's promise.
        let put = unsafe { result::memcpy_htod_async(to.0, from, self.stream.cu_stream()) };
        self.done("copy to the device", put)
    }

    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<(), DeviceError> {
        self.bind()?;
        // SAFETY: the caller's promise.
        let put = unsafe { result::memcpy_dtoh_async(to, from.0, self.stream.cu_stream()) };
        self.done("copy from the device", put)
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: u64) -> Result<(), DeviceError> {
        self.bind()?;
        // SAFETY: the caller's promise.
        let put = unsafe { result::memcpy_dtod_async(to.0, from.0, bytes as usize, self.stream.cu_stream()) };
        self.done("copy within the device", put)
    }

    unsafe fn fill(&self, to: Address, byte: u8, bytes: u64) -> Result<(), DeviceError> {
        self.bind()?;
        // SAFETY: the caller's promise.
        let put = unsafe { result::memset_d8_async(to.0, byte, bytes as usize, self.stream.cu_stream()) };
        self.done("fill memory", put)
    }

    unsafe fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<(), DeviceError> {
        self.bind()?;
        let function = self.function(&launch.kernel, launch.shared)?;
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Pointer(Address(value)) | Arg::U64(value) => std::ptr::from_ref(value) as *mut c_void,
                Arg::U32(value) => std::ptr::from_ref(value) as *mut c_void,
                Arg::F32(value) => std::ptr::from_ref(value) as *mut c_void,
            })
            .collect();
        let triple = |[x, y, z]: [u32; 3]| (x, y, z);
        // SAFETY: the driver copies the arguments before it returns; the rest is the caller's promise.
        let put = unsafe {
            result::launch_kernel(
                function,
                triple(launch.grid),
                triple(launch.block),
                launch.shared,
                self.stream.cu_stream(),
                &mut pointers,
            )
        };
        put.map_err(|e| self.failed(&format!("launch {}", launch.kernel), text(&e)))
    }

    unsafe fn multiply(&self, product: &Product) -> Result<(), DeviceError> {
        self.bind()?;
        let half = match product.half {
            Half::F16 => blas_sys::cudaDataType::CUDA_R_16F,
            Half::Bf16 => blas_sys::cudaDataType::CUDA_R_16BF,
        };
        let out = if product.wide {
            blas_sys::cudaDataType::CUDA_R_32F
        } else {
            half
        };
        let (one, zero) = (1f32, 0f32);
        let [rows, inputs, outputs] = [product.rows, product.inputs, product.outputs].map(|n| n as c_int);
        let out_stride = product.out_stride as c_int;
        // cuBLAS reads column by column: what it takes for `weight`, transposed, is the matrix as it lies here.
        // SAFETY: alpha and beta are read before the call returns; the rest is the caller's promise.
        let put = unsafe {
            blas::gemm_ex(
                *self.blas.handle(),
                blas_sys::cublasOperation_t::CUBLAS_OP_T,
                blas_sys::cublasOperation_t::CUBLAS_OP_N,
                outputs,
                rows,
                inputs,
                std::ptr::from_ref(&one).cast(),
                product.weight.0 as *const c_void,
                half,
                inputs,
                product.x.0 as *const c_void,
                half,
                inputs,
                std::ptr::from_ref(&zero).cast(),
                product.out.0 as *mut c_void,
                out,
                out_stride,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        put.map_err(|e| self.failed("multiply matrices", format!("{e:?}")))
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        // Other lanes' threads may allocate meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.done("begin a graph", self.stream.begin_capture(mode))
    }

    fn end_capture(&self) -> Result<Graph, DeviceError> {
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        match self.done("end a graph", graph)? {
            Some(graph) => {
                self.done("take a graph over", graph.upload())?;
                Ok(Box::new(Captured(graph)))
            }
            None => Err(self.failed("end a graph", "it is empty".to_owned())),
        }
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<(), DeviceError> {
        let Some(Captured(graph)) = graph.downcast_ref() else {
            return Err(self.failed("replay a graph", "it is of another device".to_owned()));
        };
        self.done("replay a graph", graph.launch())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.done("finish its work", self.stream.synchronize())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        // SAFETY: the stream is empty and cuBLAS gets no more work.
        unsafe { self.free(self.workspace) };
        for module in &self.modules {
            // SAFETY: loaded in `open`, unloaded once.
            let _ = unsafe { result::module::unload(module.0) };
        }
    }
}

/// What the driver says of an error, in its own words.
fn text(error: &DriverError) -> String {
    match error.error_string() {
        Ok(words) => words.to_string_lossy().into_owned(),
        Err(_) => format!("{:?}", error.0),
    }
}

/// What can be known of a device without a stream on it.
///
/// # Errors
/// One sentence that says what is missing.
pub fn facts(ordinal: usize) -> Result<CudaFacts, String> {
    let context = open_context(ordinal)?;
    let opened = |e: DriverError| format!("cuda:{ordinal} does not answer ({})", text(&e));
    let bytes = context.uuid().map_err(opened)?.bytes;
    let hex: String = bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    let (free, _) = context.mem_get_info().map_err(opened)?;
    Ok(CudaFacts {
        name: context.name().map_err(opened)?.trim().to_owned(),
        uuid: Some(format!("GPU-{}", parts.join("-"))),
        free_bytes: free as u64,
    })
}

/// The device's primary context, if the kernels here run on it.
fn open_context(ordinal: usize) -> Result<Arc<CudaContext>, String> {
    libraries::present()?;
    let found = CudaContext::device_count()
        .map_err(|e| format!("the NVIDIA driver shows no device ({})", text(&e)))?;
    if ordinal >= found as usize {
        return Err(format!(
            "there is no cuda:{ordinal}: the driver shows {found} devices"
        ));
    }
    let opened = |e: DriverError| format!("cuda:{ordinal} cannot be opened ({})", text(&e));
    let context = CudaContext::new(ordinal).map_err(opened)?;
    let (major, minor) = context.compute_capability().map_err(opened)?;
    if major < 8 {
        return Err(format!(
            "cuda:{ordinal} has compute capability {major}.{minor}, and the kernels here need 8.0 (Ampere) or later"
        ));
    }
    Ok(context)
}
