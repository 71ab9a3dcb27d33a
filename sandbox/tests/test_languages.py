"""Programs in other languages: compiled under limits, run like any other."""

import pytest
from sandbox_support import BACKENDS, opened

from rewardkit_sandbox import LANGUAGES, Limits, Program, Stdin

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
    """It reads its input and its output comes back."""
    result = box.run(Program(ADD[language], language), [Stdin("1 2\n"), Stdin("10 -4\n")])
    assert [run.text for run in result.runs] == ["3\n", "6\n"], result


@pytest.mark.parametrize("language", LOOP)
def test_endless_loops(box, language):
    """They time out."""
    assert (
        box.run(Program(LOOP[language], language), [Stdin("")], Limits(cpu_s=1, wall_s=8)).runs[0].status
        == "time_limit"
    )


def test_a_program_that_does_not_compile(box):
    """Every run is a compile error, with what the compiler said."""
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
    result = box.run(Program(source, "cpp"), [Stdin("")], Limits(cpu_s=10, wall_s=60, memory_mb=512))
    assert result.runs[0].status == "compile_error"
    assert b"root:" not in result.runs[0].stderr
    assert box.run(Program(ADD["python"]), [Stdin("1 2\n")]).runs[0].text == "3\n"


def test_a_compiled_program_is_confined(box):
    """It has no socket, no privilege, and finds nothing but itself."""
    source = """#include <sys/socket.h>
#include <sys/mount.h>
#include <unistd.h>
#include <cstdio>
int main(){ printf("%d %d %d\\n", socket(AF_INET, SOCK_STREAM, 0), mount("x", "/tmp", "tmpfs", 0, 0), getuid() == 0); }"""
    assert box.run(Program(source, "cpp"), [Stdin("")]).runs[0].text == "-1 -1 0\n"


def test_every_recipe_says_how():
    """Compiled languages leave a program, interpreted ones name their file."""
    for recipe in LANGUAGES.values():
        assert recipe.run[0].startswith("/") is not bool(recipe.compile)
        assert recipe.file in (recipe.compile or recipe.run)
