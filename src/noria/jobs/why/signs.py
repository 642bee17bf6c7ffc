"""What programs, libraries and schedulers print when something ends them, and what it means: one row for each meaning.

A row's `lines` are patterns, one a line: what all versions of a message have in common, and no more, since numbers, paths and
punctuation change between releases. The first row that knows a line counts, so what is special stands before what is general.
To teach it a message, add a line to the row that means it, and a case to tests/jobs/test_failed.py.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from msgspec import Struct

from noria.types import Cause

WHY, THAT, ECHO = 2, 1, 0
"""What a line is worth: it says why; it says only that it ended; it is what one says when another task died."""


class Sign(Struct, frozen=True):
    """One meaning. says: a sentence, in which {} is what a pattern's group found."""

    cause: Cause
    says: str
    cure: str
    lines: str
    worth: int = WHY


_MEM = "Ask for more with --mem, or let each task take less: smaller batches, fewer workers."
_NET = "Try again; if it comes back on the same nodes, leave them out and tell the site."
_NODE = "Try again on another node, and tell the site which one it was."
LOST, UNMET = "It lost another rank.", "The ranks did not find each other in time."
"""What a rank says that may have waited for one which did not come."""
_CODE = "Correct the program: the same would happen anywhere."

SIGNS = (
    # The scheduler ended it, and says so.
    Sign("time_limit", "It reached its time limit.", "Ask for more with --time, and save checkpoints so that it can go on.", r"""
        DUE TO TIME LIMIT
        walltime \S+ exceeded limit
        TERM_RUNLIMIT
        (?i)(?:reached|exceeded|exhausted|hit) (?:its|the|your|hard|soft|job|maximum)?\s?(?:\w+ )?(?:wall ?clock|wall ?time|run ?time|time|h_rt|cpu time)(?: limit)?\b
        (?i)(?:wall ?clock|wall ?time|run ?time|time|h_rt|cpu time) (?:limit )?(?:of \S+ s )?(?:was |is )?(?:reached|exceeded|exhausted|expired)
        enforced h_rt
        (?i)cpu time limit exceeded
    """),
    Sign("preempted", "A job of higher priority took its place.", "Nothing is wrong with it: submit it again.", r"""
        DUE TO PREEMPTION
        (?i)\bpreempted (?:by|in favou?r|to make|for)|(?:was|been|being|job) preempted
        TERM_PREEMPT
        (?i)preemption notice|spot (?:instance )?(?:interruption|termination)
    """),
    Sign("node_failure", "A node of it went down.", "Submit it again: the scheduler leaves out a node that is down.", r"""
        DUE TO NODE FAILURE|\bNODE_FAIL\b|\bBOOT_FAIL\b
        srun: error: Node failure on (\S+)
        A node (?:that it ran on failed|did not boot)
        (?i)lost communication with (?:a remote |the )?(?:daemon|node)|has lost communication
        (?i)\bnode \S+ (?:is down|went down|has failed|crashed|rebooted)
    """),
    Sign("cancelled", "Somebody cancelled it in the scheduler.", "Submit it again if that was a mistake.", r"""
        CANCELLED AT (?!.*DUE TO)\S+
        (?i)job deleted by \S+|terminated by \S+@|TERM_OWNER|TERM_ADMIN
    """),
    # Memory of GPUs, of /dev/shm, and of nodes.
    Sign("gpu_memory", "A GPU had no more memory.", "Make the batch smaller, or ask for GPUs with more memory.", r"""
        (?:CUDA|HIP|XPU|NPU|MPS)\b.{0,60}(?i:out of memory)
        (?:cuda|torch|cupy)[\w.]*\.OutOfMemoryError
        CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory
        CU(?:BLAS|DNN|SOLVER|SPARSE|FFT)_(?:STATUS_)?(?:ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
        Cuda failure (?:\d+ )?'out of memory'
        OOM when allocating tensor|ResourceExhaustedError
        RESOURCE_EXHAUSTED:.*(?i:out of memory|allocat|hbm|exceeded)
        (?i)\bgpu\b.{0,30}out of memory|out of (?:gpu|device|vram|video) memory
        HSA_STATUS_ERROR_OUT_OF_RESOURCES
        (?i)no available memory for the cache blocks
    """),
    Sign("disk_full", "The node's shared memory was full (/dev/shm).", "Use fewer or smaller loader workers: /dev/shm is what they hand data over by.", r"""
        (?i)out of shared memory|insufficient shared memory|shared memory segment|/dev/shm.*(?:no space|full)
        (?i)unable to (?:open|write|mmap|allocate|resize) shared memory object.*no space
        (?i)killed by signal: bus error|\bbus error\b.*\bshm\b
    """),
    Sign("out_of_memory", "It used more memory than it may.", _MEM, r"""
        (?i)\boom[-_ ]kill(?:er|ed)?\b|out[- ]of[- ]memory handler|out of memory: kill|killed process \d+
        (?i)srun: error: .*: out of memory
        (?i)exceeded (?:\w+ ){0,2}memory limit|memory usage limit|memory limit (?:was )?(?:exceeded|reached)
        (?i)job killed: p?v?mem |\bp?v?mem \S+ exceeded limit
        (?i)exceeds? (?:\w+ ){0,3}limit "?[hs]_(?:vmem|rss|data)
        TERM_MEMLIMIT|used more memory than it asked|\bOUT_OF_MEMORY\b
    """),
    Sign("out_of_memory", "It could get no more memory.", _MEM, r"""
        (?:^|[\s.(:'])_?(?:Array)?MemoryError\b
        std::bad_alloc
        DefaultCPUAllocator:.*(?:can't allocate|not enough) memory
        (?i)cannot allocate (?:memory|\S+ of memory|vector of size)|\[Errno 12\]|\bENOMEM\b
        Unable to allocate [\d.]+ (?:[KMGTPE]i?)?B
        java\.lang\.OutOfMemoryError
        (?i)memory allocation (?:of \d+ bytes )?failed|virtual memory exhausted|insufficient virtual memory|not enough memory
        (?i)\bout of memory\b|malloc(?:\(\))?:? failed|\blow on memory\b|\bOutOfMemoryError\b
    """),
    Sign("out_of_memory", "The system killed a process of it, as it does when memory runs out.", _MEM, r"""
        killed by signal: Killed
        (?i)worker\b.*(?:terminated|killed) (?:due to|by|with) (?:signal:? )?SIGKILL
        terminated by a signal.*SIGKILL\(-9\)
        (?i)process (?:pool|in the process pool) was terminated abruptly
    """, THAT),
    Sign("killed", "Something killed a process of it, and nobody says why.", "Submit it again; if memory is tight, ask for more with --mem.", r"""
        (?i)(?:terminated|died|killed|exited) (?:with|by|due to|on) (?:<Signals\.)?(?:signal:? )?(?:SIGKILL|SIGTERM|9\b|15\b)
        (?i)exit (?:status|code) (?:-9|137|143)\b
    """, THAT),
    # Disks.
    Sign("user_error", "It watches more files than a process may.", "Watch fewer files.", r"""
        (?i)inotify.*(?:no space left|limit)
    """),
    Sign("disk_full", "A disk quota was used up.", "Remove what is no longer needed there, or write where your quota is larger.", r"""
        (?i)(?:disk |file |storage |inode )?quota (?:has been |was |is )?(?:exceeded|reached|exhausted|full)|over (?:\w+ )?quota|\bEDQUOT\b|\[Errno 122\]
        (?i)exceed\w* (?:\w+ ){0,3}(?:disk|storage|file|inode|group|user) quota
    """),
    Sign("disk_full", "A file system was full.", "Remove what is no longer needed there, or write to a file system with more room.", r"""
        (?i)no space left on|\bENOSPC\b|\[Errno 28\]
        (?i)(?:not enough|insufficient|out of|ran out of) (?:free )?(?:disk|storage|scratch) ?(?:space)?
        (?i)\b(?:disk|file ?system|device|partition|volume) (?:is |was |has become )?(?:or disk is )?full\b
        (?i)file size limit exceeded|\[Errno 27\]|file too large
        (?i)PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos
    """),
    # A node that is broken.
    Sign("bad_node", "The check of its nodes found one broken: {}.", _NODE, r"""
        the job cannot start: node (\S+ is not sound: .+?)\.?$
    """),
    Sign("bad_node", "The GPU's driver reports a fault.", _NODE, r"""
        \bXid\b ?[(:=\d]
        (?i)uncorrectable (?:\w+ )?(?:ecc|error)|\becc[ _](?:error|uncorrectable)|ECCUncorrectable|double[- ]bit (?:ecc )?error
        (?i)row[- _]remap\w* fail|remapped rows.*fail
        (?i)fallen off the bus|gpu[ _]is[ _]lost|gpu \S*\s?(?:requires|needs) (?:a )?reset
        (?i)hardware[ _]stack[ _]error|hw exception by gpu|\bgpu hang\b|nvlink (?:\w+ )?(?:error|fault|fatal)
    """),
    Sign("bad_node", "The GPU driver of the node does not work.", _NODE, r"""
        (?i)unable to determine the device handle|nvidia-smi has failed|communicate with the nvidia driver
        (?i)cuda driver initialization failed|system not yet initialized|SystemNotReady|SYSTEM_NOT_READY
        (?i)driver/library version mismatch|cuda unknown error|failed to initialize nvml
        (?i)CUDA-capable device\(s\) is/are busy or unavailable|cudaErrorDevicesUnavailable
        (?i)unsupported display driver / cuda driver combination
    """),
    Sign("bad_node", "The node's hardware reports an error.", _NODE, r"""
        (?i)\bmachine check\b|\bmce:.*error|\[hardware error\]
        (?i)\bI/O error, dev |unrecovered read error
    """),
    Sign("bad_node", "The node lost a file system.", _NODE, r"""
        (?i)stale (?:nfs )?file handle|\[Errno 116\]|\bESTALE\b
        (?i)transport endpoint (?:shutdown|is not connected: ?'/)|\[Errno 108\]|remote I/O error|\[Errno 121\]
        (?i)structure needs cleaning|host is down: ?'/|\blustre\b.*\bevict|\bevicted by\b.*(?:ost|mdt)
    """),
    Sign("bad_node", "The node could not read or write a disk.", _NODE, r"""
        (?i)input/output error|\[Errno 5\]
    """),
    Sign("bad_node", "A file system of the node can only be read.", _NODE, r"""
        (?i)read-only file system|\[Errno 30\]|\bEROFS\b
    """),
    Sign("bad_node", "The node shows the program no GPU.", _NODE, r"""
        (?i)no cuda gpus are available|no cuda-capable device|found no nvidia driver|cudaErrorNoDevice|CUDA_ERROR_NO_DEVICE
        (?i)unable to initialize backend '(?:cuda|gpu|rocm)'
        (?i)\bno (?:visible |available |supported |usable )?(?:gpu|cuda device|rocm device|hip device|npu)s? (?:\w+ )?(?:found|available|detected|visible)
        (?i)requires? (?:a |at least (?:one|1) )?(?:cuda[- ])?gpu.*(?:none|not)
    """),
    # Licences.
    Sign("licence", "It got no licence.", "Submit it again when one is free, or ask the site about the licence.", r"""
        (?i)\bflex(?:net|lm)\b.*(?:error|fail|denied)|\blmgrd\b.*(?:error|down|not)|licensed number of users|maximum number of users .*reached
        (?i)\blicen[cs]es? (?:check ?-?out|server|manager|daemon|seat|token|key)\w*.{0,80}(?:fail|error|denied|down|\bnot\b|cannot|unable|refused|timed|exceed|reached|expired|invalid)
        (?i)(?:fail|error|denied|cannot|unable|could not)\b.{0,60}\blicen[cs]es? (?:check ?-?out|server|manager|daemon|seat|token)
        (?i)\b(?:no|invalid|expired|waiting for)(?: \w+){0,3} licen[cs]es?\b(?=[,.:]?$| (?:found|available|left|free|for|to)\b)
        (?i)^(?!.*(?:\b40[134]\b|://)).*\blicen[cs]es?\b.{0,60}(?:has expired|expired|not (?:available|found|valid)|unavailable|exhausted|in use|denied|maximum|exceeded)
    """),
    # What ranks say of each other. A mistake of the program first, then what is heard when another one died.
    Sign("user_error", "The ranks did not call the same collective operation.", "Let all ranks call the same operations in the same order, with tensors of the same size.", r"""
        (?i)mismatch(?:ed)? (?:between |in )?collective|collectives?\b.*\bmismatch
        (?i)op\.preamble\.(?:length|nbytes)|gloo.*enforce fail.*size
    """),
    Sign("communication", "A port that it wants was taken on the node.", "Listen on the port that Noria gives in MASTER_PORT, or on port 0.", r"""
        (?i)address already in use|\bEADDRINUSE\b|\[Errno 98\]|\bport \d+ is (?:already )?(?:in use|taken|occupied)
    """),
    Sign("communication", LOST, _NET, r"""
        (?i)connection (?:was )?(?:closed|reset|aborted|lost|terminated)|broken ?pipe|\[Errno (?:32|104)\]
        (?i)ncclRemoteError|remote process (?:exit|has)|process exiting prematurely|recv, got 0 bytes|pair closure
        (?i)(?:peer|remote end|socket) (?:was |has )?(?:closed|disconnected|gone)
        EOFError(?:: *)?$
        (?i)terminate called.*(?:c10::Dist|gloo::|nccl)|watchdog (?:caught|got|hit|thread)|detected by watchdog|process group watchdog|heart ?beat monitor
        (?i)communicator was aborted|ncclCommAbort|async operation timeout|nccl operations have failed or timed out
        (?i)timed out waiting \d+ ?ms for (?:recv|send)|collective (?:operation )?time|monitoredBarrier|barrier timed out
        (?i)heartbeat.*(?:time|timed|lost|missed)|coordination service.*(?:unavail|unhealthy|error)|task \S+ is unhealthy
        (?i)another task died|distributed service detected fatal errors|failed to send RPC to coordination service
        MPI_ERR_PROC_FAILED
    """, ECHO),
    Sign("communication", "The network between the ranks failed.", _NET, r"""
        (?i)\b[nr]ccl(?:System|Internal|Unhandled\w*)Error|unhandled (?:system|cuda|hip) error|\b[nr]ccl error
        NCCL WARN.*(?i:error|fail|time|mismatch|reset|refused)|(?i:\bNET/IB\b.*(?:error|fail|status))
        (?i)\bibv_\w+.*(?:fail|error)|local qp operation err|transport retry count|RETRY_EXC_ERR|completion (?:from peer \S+ )?with (?:error|status)
        (?i)\bmlx[45].*(?:error|fatal)|\bUCX +(?:ERROR|FATAL)|\bUCX_ERR|\blibfabric.*error|\bfi_\w+\b.*fail|\bpsm2?\b.*(?:error|fail)|\brdma\b.*(?:error|fail)
        (?i)\bpml\b.*(?:fail|cannot)|\bbtl[ :_].*(?:fail|unreach|reset)|are unreachable|unable to complete a tcp connection|unable to reach
        MPI_ERR_(?:OTHER|INTERN|UNKNOWN|PORT|CONN)
        (?i)enforce fail.*gloo.*(?:connect|device|interface)|gloo.*(?:unable to (?:find|resolve)|connect\w* fail)
    """),
    Sign("communication", UNMET, _NET, r"""
        (?i)waiting for clients|clients joined|client socket has (?:timed out|failed)|Dist(?:Store|Network)Error|store.*\btimed? ?out
        (?i)rendezvous\w*.{0,60}(?:time|fail|clos|error)|wait timeout after \d+ ?ms|socket timeout|connectFullMesh
        DEADLINE_EXCEEDED|UNAVAILABLE: .*(?i:connect)
        (?i)init_process_group.*tim
    """),
    Sign("communication", "It could not reach another machine.", _NET, r"""
        (?i)connection (?:\w+ )?(?:timed out|timeout|refused)|no route to host|network is (?:unreachable|down)|\[Errno (?:10[017]|11[0123])\]
        (?i)transport endpoint is not connected|host is down
        (?i)failed to connect (?:to )?(?:all|any|remote)|connect\w* to \S+ (?:failed|timed out)|failed to establish a new connection
    """),
    Sign("communication", "It could not reach a server; nodes often have no way to the internet.", "Download what it needs before you submit, or try again if it has worked before.", r"""
        (?i)name or service not known|temporary failure in name resolution|could not resolve host|\bgaierror\b|name ?resolution ?error|nodename nor servname
        (?i)max retries exceeded|remote end closed|read timed out|\b(?:Read|Connect)Timeout(?:Error)?\b|urlopen error
        (?i)LocalEntryNotFoundError|couldn't connect to '?https?:|we couldn't connect to
        (?i)\b(?:502|503|504)\b:? (?:server error|bad gateway|service unavailable|gateway time)
    """),
    # Written for other releases.
    Sign("user_error", "It was written for the Keras before 3.", "Write learning_rate= for lr=, model.inputs for model.input, fit for fit_generator. With tf_keras and --env TF_USE_LEGACY_KERAS=1 the last two run as they are; lr= would be passed over there.", r"""
        Argument\(s\) not recognized: \{'lr'
        The layer \S+ has never been called and thus has no defined (?:in|out)put
        object has no attribute '(?:fit|evaluate|predict)_generator'
    """),
    Sign("user_error", "It uses arguments that Keras has no more.", "Write epochs= for nb_epoch=, and for decay= a schedule from keras.optimizers.schedules as the learning rate.", r"""
        unexpected keyword argument 'nb_epoch'
        Argument\(s\) not recognized: \{'decay'
    """),
    Sign("user_error", "It calls what never was in that library.", "Write mlflow.sklearn.log_model(model, name=...), or that of the model's own library; LinearRegression is in sklearn.linear_model.", r"""
        module 'mlflow' has no attribute 'log_model'
        No module named 'sklearn\.linear_regression'
    """),
    Sign("user_error", "The module {} was imported once more before its import was over.", "Does a file beside the program have the name of a module that is needed, such as cuda.py? Rename it. Else two modules import each other.", r"""
        partially initialized module '([\w.]+)'
    """),
    # What is not there.
    Sign("missing_module", "Python finds no module {}.", "Install it into the job's environment, or activate the one that has it before you submit.", r"""
        No module named '?([\w.]+)
    """),
    Sign("missing_module", "The library {} is missing, or too old.", "Load the module that has it before you submit, or install a build that fits this site.", r"""
        error while loading shared libraries: ([^\s:]+)
        ([\w./+-]+\.so[\w.]*): cannot open shared object
        (?:undefined symbol: \w+|version [`']?((?:GLIBC|GLIBCXX|CXXABI|CUDA|OPENSSL)\w*[\d.]+)'? not found)
    """),
    Sign("missing_module", "The module {} is not there.", "See what there is (module avail, conda env list), and load it before you submit.", r"""
        (?i)unable to locate a modulefile for '?([^\s']+)
        (?i)following module\(s\) (?:are unknown|cannot be loaded).*?"?([\w.]+/[^\s"]*)
        there is no package called .([\w.]+)
        Can't locate (\S+\.pm) in @INC
        (?i)Package (\S+) not found in current path|Cannot find (?:module|package) '([^']+)'
        ClassNotFoundException: (\S+)
        EnvironmentNameNotFound: (?:Could not find conda environment: )?(\S+)
        DistributionNotFound: The '([\w-]+)
        importlib\.metadata\.PackageNotFoundError: .*?([\w-]+)$
    """),
    Sign("missing_module", "A part of a module is missing: {}.", "Install the version that the program was written for.", r"""
        ImportError: cannot import name '(\w+)'
        ImportError: (.+)
    """),
    Sign("missing_file", "{} is not there.", "Correct the path, or put the file where the nodes see it; --stage takes it to their disks.", r"""
        can't open file '([^']+)'
        (?:FileNotFound|NotADirectory)Error\b.*?'([^']+)'
        cannot start (\S+): No such file
        (?:bash|sh|zsh|dash)?:? ?(?:line )?\d*:? ?([^\s:]+): (?:command )?not found$
        execve\(\): ([^\s:]+): No such file
        (?i)cannot (?:stat|open|access|find|read|load|cd to) [`'"]?([^'":\s]+)['"]?:? .*no such file
        ([^\s:'"`]+)['"]?: No such file or directory
        (?i)no such file or directory:? ?b?['"]?([^'"\s)]*)
        (?i)unable to (?:synchronously )?open file.*name = '([^']+)
        (?i)\b(?:file|path|checkpoint|dataset|director(?:y|ies)|folder|weights|config)\b ['"`]?([^\s'"`]*[./][^\s'"`]*)['"`]? (?:does not|doesn't|did not) exist
        (?i)\b(?:file|path|checkpoint|dataset|director(?:y|ies)|folder|weights|config)\b ['"`]?([^\s'"`]*[./][^\s'"`]*)['"`]? (?:was |is |were )?(?:not found|missing|not there)
        FileNotFoundError: (.+)
    """),
    Sign("cannot_start", "It could not be started: {}.", "The command must be a program that the nodes may run, in a folder that they see.", r"""
        the job cannot start: (.+?)\.?$
        (cannot start \S+: .+?)\.?$
        (?:execve\(\)|exec)[: ]+(.*Permission denied)
        (bad interpreter: .*)|(Exec format error)|(cannot execute.*)
        (?:ba|da|z|k)?sh: (?:line )?(?:\d+: )?(\S+: Permission denied)$
        (?i)(container creation failed|prolog (?:failed|error)|task launch .*failed|launch failed requeued held|unable to (?:create step|allocate resources).*)
        (?i)could not (start it|write its log|enter its folder)
    """),
    # The program's own.
    Sign("hang", "It stood still.", "Look at where its ranks stood, and at what the one that is elsewhere waits for.", r"""
        (?i)DataLoader timed out after|^no step for [\d.]+ s, where|\bdeadlock(?:ed)?\b|\b(?:is|has|was) (?:hung|stuck|stalled)\b|\bhung for\b
    """),
    Sign("user_error", "The program used a GPU wrongly.", "Run it with CUDA_LAUNCH_BLOCKING=1 to see the line; indices and labels out of range are the usual reason.", r"""
        (?i)device-side assert|illegal memory access|misaligned address|invalid device ordinal|CUBLAS_STATUS_(?:EXECUTION_FAILED|INVALID_VALUE|NOT_INITIALIZED)|invalid configuration argument
    """),
    Sign("user_error", "Its build does not fit the GPU or the driver.", "Install a build for this GPU and this driver; `noria nodes` shows the GPUs.", r"""
        (?i)no kernel image is available|torch\.cuda\.is_available\(\) is False|Torch not compiled with CUDA|CUDA driver version is insufficient|invalid device function|NVIDIA driver on your system is too old
    """),
    Sign("user_error", "The program cannot be parsed.", _CODE, r"""
        ^(?:Syntax|Indentation|Tab)Error\b
        (?i)syntax error|unbound variable|unexpected end of file
    """),
    Sign("user_error", "The program does not take the arguments that it was given.", "Correct the command after --.", r"""
        (?i)unrecognized (?:arguments?|option)|following arguments are required|\berror: argument \S+
        (?i)\b(?:invalid|missing|unknown|no such|unexpected|ambiguous|illegal) (?:command[- ]line )?(?:option|argument|command|choice|flag|parameter)\b
        (?i)could not override
    """),
    Sign("user_error", "Its numbers became NaN or infinite.", "Lower the learning rate, clip gradients, or look at the data of the steps before.", r"""
        (?i)\b(?:loss|gradients?|grad[ _]norm|weights?|logits?|parameters?|values?|outputs?|activations?)\b.{0,60}\b(?:is|are|was|became|become|contains?|has|got|not|went|hit)\b.{0,20}\b(?:nan|nans|inf|infs|infinit\w+|non-?finite|finite)\b
        (?i)\b(?:nan|nans|infinite|non-?finite)\b.{0,30}\b(?:loss|gradients?|weights?|detected|found|encountered|values?)\b|\b(?:loss|training) (?:has )?diverged
    """),
    Sign("user_error", "It may not do that with that file.", "Write to a folder of yours, or change the file's permissions.", r"""
        (?i)permission denied|\[Errno 13\]|operation not permitted|\[Errno 1\]|\bEACCES\b
    """),
    Sign("user_error", "The program crashed.", _CODE, r"""
        (?i)\bassertion\b.*\bfailed|assert(?:ion)? fail|panicked at|stack smashing|double free|free\(\): invalid|corrupted (?:size|unsorted|double)|pure virtual
        (?i)terminate called|fatal python error|segmentation fault|\bSIGSEGV\b|forrtl: severe|backtrace for this error|execution halted|LoadError
        (?i)floating point exception|illegal instruction|core dumped|too many open files|stack overflow|recursion ?error|^fatal(?: error)?:
    """, THAT),
)  # fmt: skip

ENDINGS = re.compile(
    r"ChildFailedError|Root Cause \(first observed|exited unexpectedly|Process(?:Exited|Raised)Exception|KeyboardInterrupt|SignalException"
    r"|SystemExit|MPI_ABORT was invoked|Primary job +terminated|BAD TERMINATION|closing signal SIGTERM|failed \(exitcode: |got signal:? ?(?:15|SIGTERM)|received (?:signal 15|SIGTERM)|leaked \w+ objects|mpirun (?:noticed|has exited)"
)
"""Says only that something ended before, or that it was told to end."""
HARMLESS = re.compile(
    r"(?i)\bwarn(?:ing)?s?\b|(?-i:\b(?:INFO|DEBUG|NOTICE)\b)|\b(?:info|debug|notice)[\]:]|\bignor(?:e|ed|ing)\b|\bfall(?:s|ing)? ?back|\bretry(?:ing)?\b|\btry(?:ing)? again"
    r"|failed call to cuInit|(?-i:^(?:[\d-]+ )?[\d:.]+: [WI] |^[WI]\d{4} )|\bskip(?:ped|ping)\b|\bdeprecat|\boptional\b|\bcontinuing\b|\brecovered\b|\binstead\b"
)
"""What a program says and lives on."""


@cache
def _compiled() -> tuple[tuple[Sign, tuple[re.Pattern[str], ...]], ...]:
    """Only once something failed: to compile them takes longer than to start a task."""
    return tuple((sign, tuple(re.compile(line.strip()) for line in sign.lines.strip().splitlines())) for sign in SIGNS)


def recognise(line: str) -> tuple[int, Sign, str] | None:
    """The first sign that knows the line, its place in the table, and what it says of it."""
    if not _is_known(_NUMBERS.sub(lambda found: "0.0" if "." in found[0] else "0000", line)):
        return None
    for place, (sign, patterns) in enumerate(_compiled()):
        for pattern in patterns:
            if found := pattern.search(line):
                return place, sign, _sentence(sign, next((group for group in found.groups() if group), ""))
    return None


_NUMBERS = re.compile(r"\d+\.\d+(?:e[-+]?\d+)?|\d{4,}")


@lru_cache(maxsize=8192)
def _is_known(line: str) -> bool:
    """Most lines are progress, and differ from each other, and from those of other ranks, by such numbers alone."""
    return any(pattern.search(line) for _, patterns in _compiled() for pattern in patterns)


def _sentence(sign: Sign, named: str) -> str:
    """What it says of what the line names; most lines name something."""
    return sign.says.replace("{}", named or "something")


def cure(reason: str) -> str:
    """What helps against what a sign has said: that of the first whose sentence this is, whatever it names."""
    return next((sign.cure for sign in SIGNS if all(part in reason for part in sign.says.split("{}"))), "")
