"""Programs in other languages: compiled under limits, run like any other."""

import pytest
from sandbox_support import BACKENDS, opened

from rewardkit_sandbox import LANGUAGES, Call, Limits, Program, Stdin
from rewardkit_sandbox.host.box_config import COMMON_MODULES

ADD = {
    "cpp": "#include <iostream>\nint main(){ long a, b; std::cin >> a >> b; std::cout << a + b << std::endl; }",
    "c": '#include <stdio.h>\nint main(void){ long a, b; scanf("%ld %ld", &a, &b); printf("%ld\\n", a + b); return 0; }',
    "javascript": "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number)\nconsole.log(a + b)",
    "bash": "read a b\necho $((a + b))",
    "python": "a, b = map(int, input().split())\nprint(a + b)",
}
LOOP = {
    "cpp": "int main(){ for (volatile int i = 0;; i++); }",
    "javascript": "for (;;);",
    "bash": "while :; do :; done",
}


@pytest.fixture(scope="module", params=BACKENDS)
def box(request):
    with opened(
        request.param, slots=2, image="languages", limits=Limits(cpu_s=10, wall_s=60, memory_mb=768)
    ) as sandbox:
        yield sandbox


@pytest.mark.parametrize("language", ADD)
def test_a_program_of_each_language(box, language):
    """A program reads its input, and its output is returned."""
    result = box.run(Program(ADD[language], language), [Stdin("1 2\n"), Stdin("10 -4\n")])
    assert [run.text for run in result.runs] == ["3\n", "6\n"], result


@pytest.mark.parametrize("language", LOOP)
def test_endless_loops(box, language):
    """Endless programs time out."""
    assert (
        box.run(Program(LOOP[language], language), [Stdin("")], Limits(cpu_s=1, wall_s=8)).runs[0].status
        == "time_limit"
    )


def test_a_program_that_does_not_compile(box):
    """Every run is a compile error with the compiler's message."""
    result = box.run(Program("int main() { return x; }", "cpp"), [Stdin(""), Stdin("")])
    assert [run.status for run in result.runs] == ["compile_error"] * 2
    assert b"'x' was not declared" in result.runs[0].stderr.replace("‘".encode(), b"'").replace("’".encode(), b"'")


@pytest.mark.parametrize(
    "source",
    [
        '#include "/dev/zero"\nint main(){}',
        "#define A(x) x x x x x x x x\n#define B(x) A(A(A(A(x))))\nint a[] = { B(B(B(1,))) }; int main(){}",
        "template<int N> struct F { static const int v = F<N-1>::v + F<N-2>::v + N; }; int main(){ return F<100000>::v; }",
        '#include "/etc/shadow"\nint main(){}',
    ],
)
def test_programs_that_attack_the_compiler(box, source):
    """The compiler is in the box as well: bounded, and with nothing to read."""
    result = box.run(Program(source, "cpp"), [Stdin("")], Limits(cpu_s=3, wall_s=60, memory_mb=512))
    assert result.runs[0].status == "compile_error"
    assert b"root:" not in result.runs[0].stderr
    assert box.run(Program(ADD["python"]), [Stdin("1 2\n")]).runs[0].text == "3\n"


def test_large_binaries_are_not_hoarded(box):
    """The cache of compiled programs is limited in bytes, so that no program can fill the machine."""
    for number in range(4):
        source = f"char a[20 << 20] = {{ {number + 1} }};\nint main(void) {{ return a[0] - {number + 1}; }}"
        assert box.run(Program(source, "c"), [Stdin("")]).runs[0].ok
    assert sum(len(binary) for binary, _ in box._binaries.values()) <= 64 << 20


def test_a_compiled_program_is_confined(box):
    """A program has no socket and no privilege, and sees no other process."""
    source = """#include <sys/socket.h>
#include <sys/mount.h>
#include <unistd.h>
#include <cstdio>
int main(){ printf("%d %d %d\\n", socket(AF_INET, SOCK_STREAM, 0), mount("x", "/tmp", "tmpfs", 0, 0), getuid() == 0); }"""
    assert box.run(Program(source, "cpp"), [Stdin("")]).runs[0].text == "-1 -1 0\n"


MORE = {
    "rust": 'use std::io;\nfn main(){ let mut s = String::new(); io::stdin().read_line(&mut s).unwrap(); let t: i64 = s.split_whitespace().map(|x| x.parse::<i64>().unwrap()).sum(); println!("{}", t); }',
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { var a, b int; fmt.Scan(&a, &b); fmt.Println(a + b) }',
}
"""Languages of the image `all`, which takes minutes to make."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("language", MORE)
def test_a_program_of_a_language_that_is_seldom_built(backend, language):
    """Rust and Go compile under limits, run, time out and fail to compile as the others do, where their image is built."""
    with opened(backend, slots=1, image="all", limits=Limits(cpu_s=10, wall_s=60, memory_mb=768)) as box:
        result = box.run(Program(MORE[language], language), [Stdin("1 2\n"), Stdin("10 -4\n")])
        assert [run.text for run in result.runs] == ["3\n", "6\n"], result
        loops = {"rust": "fn main(){ loop { std::hint::spin_loop() } }", "go": "package main\nfunc main() { for {} }"}
        assert (
            box.run(Program(loops[language], language), [Stdin("")], Limits(cpu_s=1, wall_s=8)).runs[0].status
            == "time_limit"
        )
        assert box.run(Program("nonsense", language), [Stdin("")]).runs[0].status == "compile_error"


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_and_tables(backend):
    """numpy, scipy, pandas and sympy work behind the walls, warm or not, and arrays come back as lists."""
    source = """
import numpy as np, pandas as pd, scipy.linalg, sympy
def f(n):
    a = np.arange(n * n, dtype=float).reshape(n, n) + 10 * np.eye(n)
    assert np.allclose(scipy.linalg.inv(a) @ a, np.eye(n))
    assert sympy.integrate(sympy.Symbol("x") ** 2) == sympy.Symbol("x") ** 3 / 3
    return pd.DataFrame({"a": np.arange(n)}).a.cumsum().to_numpy()
"""
    limits = Limits(cpu_s=20, wall_s=60, memory_mb=1024)
    for preimport in (None, (*COMMON_MODULES, "numpy", "pandas")):
        with opened(backend, slots=1, image="science", limits=limits, preimport=preimport) as box:
            run = box.run(Program(source), [Call("f", (4,))]).runs[0]
            assert run.value == [0, 1, 3, 6], run


def test_every_recipe_says_how():
    """Compiled languages leave a program, interpreted ones name their file."""
    for recipe in LANGUAGES.values():
        assert recipe.run[0].startswith("/") is not bool(recipe.compile)
        assert recipe.file in (recipe.compile or recipe.run)
