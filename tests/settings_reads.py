"""Finds the settings that the code reads, by inferring the class of every expression from the annotations.

No two classes of drift share a name, so a class is its name. Containers, Optionals, unions and `type[...]` count as
the classes that their annotation names. An expression whose class is unknown reads nothing.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

Classes = frozenset[str]
Scope = dict[str, Classes]
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
NOTHING: Classes = frozenset()
SAME_CLASS = {"model_copy", "model_validate", "model_validate_json", "items", "values", "get", "setdefault", "pop"}
"""Methods whose result has the classes of their object."""
PASS_ON = {"cast", "dict", "enumerate", "iter", "list", "max", "min", "next", "replace", "sorted", "tuple", "zip"}
"""Functions whose result has the classes of their arguments."""


class SettingsReads:
    """`trees`: every module, for its annotations. `readers`: the modules whose reads count."""

    def __init__(self, trees: Iterable[ast.Module], readers: Iterable[ast.Module]) -> None:
        self.reads: set[tuple[str, str]] = set()
        """(class, attribute) of every attribute that is read off an expression of a known class."""
        self.bases: dict[str, set[str]] = {}
        self.members: dict[str, Scope] = defaultdict(dict)
        self.functions: dict[str, list[ast.FunctionDef]] = defaultdict(list)
        self.constants: dict[str, ast.expr] = {}
        self.own_functions: dict[str, ast.FunctionDef] = {}
        statements = [statement for tree in trees for statement in tree.body]
        for node in statements:
            if isinstance(node, ast.ClassDef):
                self.bases[node.name] = {name for base in node.bases for name in re.findall(r"\w+", ast.unparse(base))}
            elif isinstance(node, ast.FunctionDef):
                self.functions[node.name].append(node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.constants.setdefault(node.targets[0].id, node.value)
        for node in statements:
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    self.members[node.name][member.target.id] = self._annotated(member.annotation)
                elif isinstance(member, ast.FunctionDef):
                    self.members[node.name][member.name] = self._annotated(member.returns)
        modules = list(readers)
        for _ in range(2):  # the first pass collects the attributes that `self.x = ...` gives a class
            self.reads.clear()
            for module in modules:
                self.own_functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
                self._visit(module, {})

    def is_read(self, name: str, field: str) -> bool:
        """Whether `field` is read off the class, an ancestor or a descendant of it."""
        family = {other for other in self.bases if other in self.ancestors(name) or name in self.ancestors(other)}
        return any((relative, field) in self.reads for relative in family)

    def ancestors(self, name: str) -> list[str]:
        """The class itself first."""
        return [name, *(above for base in sorted(self.bases.get(name, ())) for above in self.ancestors(base))]

    def _annotated(self, annotation: ast.expr | None) -> Classes:
        """The classes that an annotation names; for a Callable, the classes of its result."""
        if isinstance(annotation, ast.Constant):
            return frozenset(self.bases.keys() & set(re.findall(r"\w+", str(annotation.value))))
        if isinstance(annotation, ast.Name | ast.Attribute):
            name = annotation.id if isinstance(annotation, ast.Name) else annotation.attr
            alias = self.constants.get(name)
            if isinstance(alias, ast.Subscript | ast.BinOp):
                return self._annotated(alias)
            return frozenset({name} & self.bases.keys())
        if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in {"Callable", "Literal"}:
            parts = annotation.slice
            is_callable = ast.unparse(annotation.value) == "Callable" and isinstance(parts, ast.Tuple)
            return self._annotated(parts.elts[-1]) if is_callable else NOTHING
        return NOTHING.union(*map(self._annotated, _expressions(annotation)))

    def _visit(self, scope: ast.Module | Function, outer: Scope, owner: str = "") -> None:
        """Infer the names of a module or function and record what it reads; then visit the functions inside it."""
        names = dict(outer)
        if not isinstance(scope, ast.Module):
            arguments = [*scope.args.posonlyargs, *scope.args.args, scope.args.vararg, *scope.args.kwonlyargs]
            names |= {argument.arg: self._annotated(argument.annotation) for argument in arguments if argument}
            names |= {first.arg: frozenset({owner}) for first in arguments[:1] if first and owner}  # self, cls
        nodes = list(_own_nodes(scope))
        for _ in range(2):  # a loop may use a name above the line that binds it
            for node in nodes:
                self._bind(node, names, owner)
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                self.reads |= {(name, node.attr) for name in self._classes(node.value, names)}
            elif isinstance(node, Function):
                self._visit(node, names)
            elif isinstance(node, ast.ClassDef):
                for method in (member for member in node.body if isinstance(member, Function)):
                    self._visit(method, names, node.name)

    def _bind(self, node: ast.AST, names: Scope, owner: str) -> None:
        if isinstance(node, ast.AnnAssign):
            self._assign(node.target, self._annotated(node.annotation), names, owner)
        elif isinstance(node, ast.Assign | ast.NamedExpr):
            for target in node.targets if isinstance(node, ast.Assign) else (node.target,):
                self._assign(target, self._classes(node.value, names), names, owner)
        elif isinstance(node, ast.For | ast.comprehension):
            self._assign(node.target, self._classes(node.iter, names), names, owner)
        elif isinstance(node, ast.withitem) and node.optional_vars:
            self._assign(node.optional_vars, self._classes(node.context_expr, names), names, owner)

    def _assign(self, target: ast.expr, classes: Classes, names: Scope, owner: str) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = names.get(target.id, NOTHING) | classes
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._assign(part, classes, names, owner)
        elif isinstance(target, ast.Attribute) and owner and ast.unparse(target.value) == "self":
            self.members[owner][target.attr] = self.members[owner].get(target.attr, NOTHING) | classes

    def _classes(self, node: ast.expr, names: Scope) -> Classes:
        """The classes of an expression. A function counts as its result, so a call adds nothing to its name."""
        if isinstance(node, ast.Name):
            return names[node.id] if node.id in names else self._imported(node.id)
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and not (node.value.id in names or self._imported(node.value.id)):
                return self._imported(node.attr)  # of a module
            holders = self._classes(node.value, names)
            if node.attr in SAME_CLASS:
                return holders
            return NOTHING.union(
                *(self.members[name].get(node.attr, NOTHING) for holder in holders for name in self.ancestors(holder))
            )
        if isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)] if function in PASS_ON else []
            return NOTHING.union(*(self._classes(part, names) for part in (node.func, *arguments)))
        if isinstance(node, ast.Compare | ast.Constant | ast.JoinedStr | ast.Lambda):
            return NOTHING
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            return self._classes(node.elt, names)
        parts = [node.value] if isinstance(node, ast.Subscript) else _expressions(node)
        return NOTHING.union(*(self._classes(part, names) for part in parts))

    def _imported(self, name: str) -> Classes:
        """A class, function or constant of some module; of functions that share the name, this module's own."""
        if isinstance(self.constants.get(name), ast.Call):
            return self._classes(self.constants[name], {})
        own = self.own_functions.get(name)
        functions = [own] if own else self.functions.get(name, [])
        return self._annotated(ast.Name(name)).union(*(self._annotated(function.returns) for function in functions))


def _expressions(node: ast.AST | None) -> list[ast.expr]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)] if node else []


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module or function, without those of a function or class inside it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.ClassDef | Function):
            yield from _own_nodes(child)
