"""Print the cost tables of docs/cluster.md, from the model of `drift run --plan`: python benchmarks/cost_table.py"""

from drift.plan import cost_table

if __name__ == "__main__":
    print(cost_table())
