"""What is looked at before a library reads a model's file.

Libraries follow what such a file says: a tree's child by its number, a graph's operation by its name. Each module here knows one
format, and says in a ValueError what in it a model would not say. It imports no library, runs nothing, and leaves it to a
flavor what follows.
"""
