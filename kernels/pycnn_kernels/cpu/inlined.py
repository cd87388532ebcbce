"""Functions that kernels call, compiled as parts of them: ``@inlined``.

Numba optimises each function that it compiles, makes machine code of it, and of two wrappers through which Python and
C would call it; then its callers take a copy of the optimised code, and optimise that again. A kernel is a function in
twenty parts that nobody else calls. So its parts stay in LLVM's intermediate language until the kernel takes them in,
and are optimised there, once: kernels compile in half the time.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numba import _dynfunc, njit
from numba.core import codegen, compiler

#: What such a function does when Python calls it: a C function that raises a TypeError.
_REFUSE = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value


class _LinkedLibrary(codegen.JITCodeLibrary):
    """Code that is linked into other code, and never run as it is."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        """As the class above, but the module does not become machine code."""
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _InlinedCompiler(compiler.Compiler):
    """Numba's compiler, ending where machine code would begin."""

    def __init__(
        self, typing_context: Any, target_context: Any, library: Any, args: Any, return_type: Any, flags: Any,
        locals: Any,
    ) -> None:  # fmt: skip
        flags.no_compile = True
        library = _LinkedLibrary(target_context.codegen(), "inlined")
        super().__init__(typing_context, target_context, library, args, return_type, flags, locals)

    def _compile_core(self) -> Any:
        found = super()._compile_core()
        function = found.fndesc
        # Callers know a compiled function by this object.
        entry = _dynfunc.make_function(
            function.lookup_module(), function.qualname, "", _REFUSE, found.environment, (found.library,)
        )
        found.target_context.insert_user_function(entry, function, [found.library])
        return found._replace(entry_point=entry)


#: How such a function is compiled; also for the implementations of an overloaded one.
INLINED_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _InlinedCompiler,
}

#: Decorate a function that compiled code calls, and Python never.
inlined = njit(**INLINED_OPTIONS)

#: The same for one whose arithmetic is done as it is written; of others it is reordered where their callers' is.
literal = njit(fastmath=False, **INLINED_OPTIONS)
