"""The starter set: families of short tasks whose answers can be checked exactly, made by a seeded script."""
